"""A whole view at once, as a GPU makes it, is the view that single ops make."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from sce_video.augment.apply import Augmenter
from sce_video.augment.fused import FusedView
from sce_video.augment.kernels import EAGER, Kernels
from sce_video.config.recipes import RECIPES, Recipe
from tests.unit.augment.test_apply import some_clips

CPU = torch.device("cpu")
KINETICS = RECIPES["kinetics_strength_1.0"]


def compare(recipe: Recipe, batch: int, size: int) -> None:
    rows, epochs = np.arange(batch), np.full(batch, 3)
    views = [some_clips(batch, side) for _, side in recipe.crops(size)]
    # As they come from the loader.
    views = [x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3) for x in views]
    before = [clips.clone() for clips in views]
    fused = Augmenter(recipe, 7, CPU, Kernels(view=FusedView()))
    made = fused(views, epochs, rows)
    assert fused.kernels is not EAGER
    for ours, exact in zip(made, Augmenter(recipe, 7, CPU)(views, epochs, rows), strict=True):
        torch.testing.assert_close(ours, exact, rtol=0, atol=1e-5)
        assert ours.stride() == exact.stride()
    assert all(map(torch.equal, views, before))


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_equals_single_ops(name: str) -> None:
    compare(RECIPES[name], 16, 32)  # of each op some clips are chosen, and some are not


def test_what_is_drawn_changes_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    counters.clear()
    view = replace(KINETICS.views[0], kernel=5)
    recipe = replace(KINETICS, views=(view, replace(view, blur=0.5, solarize=0.5, gray=0.9)))
    augmenter = Augmenter(recipe, 0, CPU, Kernels(view=FusedView()))
    for epoch in range(4):  # both views are of one size
        clips, rows = some_clips(3), np.arange(3)
        augmenter([clips, clips], rows, rows + 3 * epoch)
    assert counters["stats"]["unique_graphs"] == counters["frames"]["ok"] == 2
    assert not counters["graph_break"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler (g++)")
def test_compiled_equals_eager() -> None:
    views = tuple(replace(view, kernel=5) for view in KINETICS.views)  # fewer lines to compile
    compare(replace(KINETICS, views=views), 16, 24)


def failing(error: Exception) -> Any:
    def view(*_: object) -> None:
        raise error

    return view


@pytest.mark.slow
def test_a_missing_compiler_is_one_line_and_eager(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    moco = RECIPES["moco_v2"]
    recipe = replace(moco, views=tuple(replace(view, kernel=3) for view in moco.views))
    clips, rows = some_clips(2, 13), np.arange(2)
    augmenter = Augmenter(recipe, 0, CPU, Kernels(view=FusedView()))
    with inductor.patch({"cpp.cxx": (None, "/nowhere/g++")}):
        made = augmenter([clips, clips], rows, rows)
    assert augmenter.kernels is EAGER
    assert all(map(torch.equal, made, Augmenter(recipe, 0, CPU)([clips] * 2, rows, rows)))
    [line] = [record.getMessage() for record in caplog.records if record.name == "sce_video"]
    assert line.startswith("augmentation is not compiled and runs slower: ")
    assert "/nowhere/g++" in line


def test_a_full_device_is_no_missing_compiler() -> None:
    kernels = Kernels(view=failing(torch.OutOfMemoryError("full")))
    augmenter = Augmenter(KINETICS, 0, CPU, kernels)
    with pytest.raises(torch.OutOfMemoryError):
        augmenter([some_clips(1)] * 2, np.arange(1), np.arange(1))
    assert augmenter.kernels is kernels
