"""What makes a folder a checkpoint: exactly its files, their sums, and what a run writes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sce_video.engine import checkpoint
from sce_video.engine.checkpoint_check import NAMES, BadCheckpointError, read_state
from sce_video.files import sha256_file

MANIFEST = "manifest.json"
STATE: dict[str, Any] = {
    "step": 4,
    "consumed": 32,
    "run_id": "abc",
    "data": "1" * 64,
    "ranks": 2,
    "data_cpu": 0.5,
    "config": {"run": {}},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {name: {"weight": torch.ones(3)} for name in NAMES[:2]}
    checkpoint.save(tmp_path / "checkpoints", files, STATE, 1)
    return tmp_path / "checkpoints" / "step-00000004"


def named(folder: Path) -> dict[str, str]:
    """What the manifest of these very files is."""
    return {name: sha256_file(folder / name) for name in NAMES}


def say(folder: Path, manifest: object) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_what_was_written_is_read(folder: Path) -> None:
    assert read_state(folder) == STATE
    older = {"step": 4, "run_id": "abc", "data": "1" * 64, "batch_size": 8}
    (folder / "state.json").write_text(json.dumps(older))
    say(folder, named(folder))
    assert read_state(folder) == older


NOT_NAMED = f"{MANIFEST} does not name what a checkpoint holds"
MANIFESTS: dict[str, Callable[[dict[str, str]], object]] = {
    "nothing": lambda _: {},
    "the state alone": lambda sums: {"state.json": sums["state.json"]},
    "all but the model": lambda sums: {n: s for n, s in sums.items() if n != "model.safetensors"},
    "another file": lambda sums: sums | {"notes.txt": "0" * 64},
    "a file above": lambda sums: sums | {"../state.json": sums["state.json"]},
    "a file anywhere": lambda sums: sums | {"/etc/passwd": "0" * 64},
    "itself": lambda sums: sums | {MANIFEST: "0" * 64},
    "a number for a sum": lambda sums: sums | {"state.json": 5},
    "a list for a sum": lambda sums: sums | {"state.json": [sums["state.json"]]},
    "half a sum": lambda sums: sums | {"state.json": sums["state.json"][:32]},
    "a sum in capitals": lambda sums: sums | {"state.json": "A" * 64},
    "a sum and a line": lambda sums: sums | {"state.json": sums["state.json"] + "\n"},
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_names_the_files_of_a_checkpoint_and_no_other(case: str, folder: Path) -> None:
    (folder / "notes.txt").touch()
    say(folder, MANIFESTS[case](named(folder)))
    with pytest.raises(BadCheckpointError, match=f"^{NOT_NAMED}$"):
        read_state(folder)


@pytest.mark.parametrize("name", [*NAMES, MANIFEST])
def test_only_a_file_is_read(name: str, folder: Path, tmp_path: Path) -> None:
    path = folder / name
    path.rename(tmp_path / name)
    makers: dict[str, Callable[[], None]] = {
        "is a link": lambda: path.symlink_to(tmp_path / name),  # to the very same bytes
        "is not a regular file": lambda: os.mkfifo(path),  # to read it would never end
    }
    for told, make in makers.items():
        make()
        with pytest.raises(BadCheckpointError, match=rf"{name}: {told}"):
            read_state(folder)
        path.unlink()
    path.mkdir()
    with pytest.raises(BadCheckpointError, match=rf"{name}: is not a regular file"):
        read_state(folder)


STATES: dict[str, tuple[object, str]] = {
    "a list": ([], "no readable state.json: holds no object"),
    "a number beyond 64 bits": (
        {**STATE, "step": 1 << 64},
        "no readable state.json: no JSON: the n",
    ),
    "no step": ({k: v for k, v in STATE.items() if k != "step"}, "state.json: step: not what"),
    "another step": ({**STATE, "step": 5}, "state.json is of step 5"),
    "a step below 0": ({**STATE, "step": -4}, "state.json: step: not what a run writes"),
    "a step that is text": ({**STATE, "step": "4"}, "state.json: step: not"),
    "a step that is a fraction": ({**STATE, "step": 4.0}, "state.json: step: not"),
    "a step that is true": ({**STATE, "step": True}, "state.json: step: not"),
    "no run": ({**STATE, "run_id": None}, "state.json: run_id: not"),
    "a path for a run": ({**STATE, "run_id": "../x"}, "state.json: run_id: not"),
    "no data": ({**STATE, "data": 7}, "state.json: data: not"),
    "samples below 0": ({**STATE, "consumed": -1}, "state.json: consumed: not"),
    "no ranks": ({**STATE, "ranks": 0}, "state.json: ranks: not"),
    "a text for ranks": ({**STATE, "ranks": "2"}, "state.json: ranks: not"),
    "a list for a config": ({**STATE, "config": []}, "state.json: config: not"),
    "null for ranks": ({**STATE, "ranks": None}, "state.json: ranks: not"),
    "null for seconds": ({**STATE, "data_cpu": None}, "state.json: data_cpu: not"),
    "no seconds": ({**STATE, "data_cpu": "x"}, "state.json: data_cpu: not"),
    "several": ({"step": 4}, "state.json: run_id, data: not what a run writes"),
}


@pytest.mark.parametrize("case", STATES)
def test_a_state_says_what_a_run_writes(case: str, folder: Path) -> None:
    content, told = STATES[case]
    (folder / "state.json").write_text(json.dumps(content))
    say(folder, named(folder))
    with pytest.raises(BadCheckpointError, match=f"^{told}"):
        read_state(folder)
