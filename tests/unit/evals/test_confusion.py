"""The picture of a confusion matrix."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sce_video.evals.confusion import colour, confusion_png


@pytest.mark.parametrize("classes", [1, 3, 101, 1000])
def test_confusion_picture_shows_every_cell(classes: int) -> None:
    counts = np.diag(np.full(classes, 4))
    counts[classes // 2] = 0
    names = [f"Class {i} of a long name that does not fit" for i in range(classes)]
    image = Image.open(io.BytesIO(confusion_png(counts, names, "split1:test: top-1 0.5")))
    pixels = np.asarray(image)
    cell = max(1, min(40, 800 // classes))
    dark = (pixels == colour(np.array([1.0]))[0]).all(-1)
    columns = np.flatnonzero(dark.sum(0) >= cell)
    if classes > 3:  # the diagonal spans the matrix
        assert columns[-1] - columns[0] >= (classes - 1) * cell - 1
    grey = (pixels == (225, 225, 225)).all(-1).sum(1) >= classes * cell
    assert grey.sum() == cell  # the class without a sample: one row
    assert max(image.size) < 1400


def test_names_of_any_length_and_kind_are_drawn() -> None:
    names = ["a\nb", "\x1b[2J", "\ud800", "x" * 10**5]
    image = Image.open(io.BytesIO(confusion_png(np.eye(4, dtype=np.int64), names, "t" * 10**5)))
    assert max(image.size) < 1400
