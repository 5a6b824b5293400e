"""Compiled ops equal eager ones; a compiler that fails costs speed, not the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._inductor import config as inductor

from sce_video.augment.apply import Augmenter
from sce_video.augment.fused import FusedView
from sce_video.augment.kernels import EAGER, ENOUGH_CLIPS, choose_kernels, compile_kernels
from sce_video.config.recipes import RECIPES
from tests.unit.augment.test_apply import some_clips

CPU = torch.device("cpu")
KINETICS = RECIPES["kinetics_strength_1.0"]

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler (g++)")


@needs_compiler
@pytest.mark.slow
def test_compiled_equals_eager_and_is_compiled_beforehand() -> None:
    kernels = compile_kernels(KINETICS, 2, 32)
    assert kernels is not EAGER
    clips, rows = some_clips(12, 32), np.arange(12)
    with torch.compiler.set_stance("fail_on_recompile"):
        compiled = Augmenter(KINETICS, 0, CPU, kernels)([clips, clips], rows, rows)
    eager = Augmenter(KINETICS, 0, CPU)([clips, clips], rows, rows)
    for a, b in zip(compiled, eager, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
        assert a.stride() == b.stride()


@pytest.mark.slow
def test_a_missing_compiler_is_one_line_and_eager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with inductor.patch({"cpp.cxx": (None, "/nowhere/g++")}):  # what CXX sets before torch starts
        assert compile_kernels(RECIPES["moco_v2"], 3, 20) is EAGER
    [line] = [record.getMessage() for record in caplog.records if record.name == "sce_video"]
    assert line.startswith("augmentation is not compiled and runs slower: ")
    assert "/nowhere/g++" in line
    assert "\n" not in line


def test_only_a_long_run_with_colours_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = object()
    monkeypatch.setattr("sce_video.augment.kernels.compile_kernels", lambda *_: made)
    enough = ENOUGH_CLIPS["cpu"]
    assert choose_kernels(KINETICS, 8, 112, CPU, enough) is made
    assert choose_kernels(KINETICS, 8, 112, CPU, enough - 1) is EAGER
    assert choose_kernels(RECIPES["crop_flip"], 8, 112, CPU, enough) is EAGER
    gpu, enough = torch.device("cuda"), ENOUGH_CLIPS["cuda"]
    assert isinstance(choose_kernels(KINETICS, 8, 112, gpu, enough).view, FusedView)
    assert choose_kernels(KINETICS, 8, 112, gpu, enough - 1) is EAGER
    assert choose_kernels(RECIPES["crop_flip"], 8, 112, gpu, enough) is EAGER
