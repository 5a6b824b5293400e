"""Parameters are pure functions of their key, with the shares and ranges of the recipe."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from sce_video.augment.parameters import ViewParams, draw
from sce_video.config.recipes import RECIPES

KINETICS = RECIPES["kinetics_strength_1.0"]


def test_draws_depend_on_seed_epoch_sample_and_view_alone() -> None:
    view, rows, epochs = KINETICS.views[0], np.arange(50), np.zeros(50, np.int64)
    first = draw(view, 0, epochs, rows, 0)
    turned = draw(view, 0, epochs, rows[::-1].copy(), 0)
    for f in fields(ViewParams):
        np.testing.assert_array_equal(getattr(turned, f.name)[::-1], getattr(first, f.name))
    for other in (
        draw(view, 1, epochs, rows, 0),
        draw(view, 0, epochs + 1, rows, 0),
        draw(view, 0, epochs, rows + 50, 0),
        draw(view, 0, epochs, rows, 1),
    ):
        assert (other.factors != first.factors).all()


def test_shares_and_ranges_are_the_tables_and_views_are_independent() -> None:
    n = 4000
    rows, epochs = np.arange(n), np.zeros(n, np.int64)
    view = replace(KINETICS.views[1], blur=0.1)
    a, b = (draw(view, 0, epochs, rows, number) for number in range(2))
    for name in ("jitter", "gray", "blur", "solarize", "flip"):
        p = getattr(view, name)
        for drawn in (a, b):  # four standard errors
            assert abs(getattr(drawn, name).mean() - p) < 4 * (p * (1 - p) / n) ** 0.5
    for column, (low, high) in enumerate([(0.2, 1.8), (0.2, 1.8), (0.6, 1.4), (-0.2, 0.2)]):
        values = a.factors[:, column]
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
    assert 0.1 <= a.sigma.min() < 0.12 < 1.98 < a.sigma.max() <= 2
    _, orders = np.unique(a.order, axis=0, return_counts=True)
    assert len(orders) == 24
    assert ((orders - n / 24) ** 2 / (n / 24)).sum() < 60  # chi2, 23 degrees of freedom: p < 1e-4
    columns = [
        np.stack(
            [x.jitter, x.gray, x.blur, x.solarize, x.flip, x.sigma, *x.factors.T, x.order[:, 0]]
        )
        for x in (a, b)
    ]
    correlation = np.abs(np.corrcoef(np.concatenate(columns)) - np.eye(22))
    assert correlation.max() < 5 / n**0.5  # of one view with each other, and between the views
