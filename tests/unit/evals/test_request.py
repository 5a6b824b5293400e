"""A request's folder is named by all that its numbers depend on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from tests.unit.evals.small_set import request_for


def test_the_folder_is_of_all_that_the_numbers_depend_on(root: Path) -> None:
    request = request_for(root)
    encoder = request.encoder
    others = [
        replace(request, split="train"),
        replace(request, views=replace(request.views, size=30)),
        replace(request, device=torch.device("cuda")),
        replace(request, encoder=replace(encoder, identity={"encoder_sha256": "0"})),
        replace(
            request,
            encoder=replace(encoder, spec=encoder.spec.model_copy(update={"mean": (0, 0, 0)})),
        ),
        replace(request, index=replace(request.index, digest="0")),
    ]
    assert len({r.folder for r in [request, *others]}) == 1 + len(others)
    moved = {**encoder.identity, "encoder": "elsewhere"}
    same = replace(request, workers=5, encoder=replace(encoder, identity=moved))
    assert same.folder == request.folder
