"""Readers of networks: our encoders and classifiers, and files of weights by others."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors.torch import save_file

from sce_video.errors import UsageError, complain
from sce_video.evals.classification import open_test
from sce_video.model.encoder import build_encoder
from sce_video.model.recognise import find_places
from sce_video.model.tensor_file import read_tensors
from sce_video.model.weights import open_encoder
from tests.faults.mutators.dice import one_of
from tests.faults.mutators.generic import damage
from tests.faults.mutators.tensors import pickle_file, tensor_file, zip_file
from tests.faults.mutators.text import yaml_text
from tests.faults.targets.house import SPEC, House
from tests.faults.targets.target import Target


def _make_encoder(house: House, folder: Path) -> None:
    house.encoder  # noqa: B018  (made)
    house.give(folder, "run/encoder.safetensors")


def _open(folder: Path, place: str) -> None:
    opened = open_encoder(folder / place)
    with torch.no_grad():
        size, frames = min(opened.spec.size, 32), min(opened.spec.frames, 4)
        opened.trunk(torch.zeros(1, 3, frames, size, size))


def _make_classifier(house: House, folder: Path) -> None:
    house.shards, house.labelled  # noqa: B018  (made)
    house.give(folder, "shards", "labelled")


def _open_test(folder: Path, place: str) -> None:
    open_test(folder / "labelled", "shards", None, warn=complain)


def _make_others(house: House, folder: Path) -> None:
    torch.manual_seed(0)
    tensors = {f"module.{k}": t for k, t in build_encoder(SPEC).state_dict().items()}
    few = {name: tensors[name] for name in list(tensors)[:12]}
    torch.save({"state_dict": few, "epoch": 3}, folder / "zip.pth")
    torch.save({"model": few}, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file({k: t.contiguous() for k, t in few.items()}, folder / "plain.safetensors")
    arrays = {name: tensor.numpy() for name, tensor in few.items()}
    (folder / "arrays.pkl").write_bytes(pickle.dumps({"blobs": arrays}, protocol=2))


def _read_others(folder: Path, place: str) -> None:
    """Tensors, then a place for a trunk among them, which a slim one has not."""
    file = folder / place
    try:
        find_places(read_tensors(file), str(file))
    except UsageError as error:
        complain(error)


TARGETS = (
    Target("encoder", _make_encoder, {"run/encoder.safetensors": tensor_file}, _open, share=3),
    Target(
        "classifier",
        _make_classifier,
        {"labelled/classifier.safetensors": tensor_file, "labelled/config.yaml": yaml_text},
        _open_test,
    ),
    Target(
        "weights of others",
        _make_others,
        {
            "zip.pth": zip_file,
            "old.pth": pickle_file,
            "plain.safetensors": tensor_file,
            "arrays.pkl": one_of(pickle_file, damage),
        },
        _read_others,
        share=4,
    ),
)
