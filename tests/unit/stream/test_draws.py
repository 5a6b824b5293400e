"""Draws by key: uniform, and the same whenever they are asked for."""

from __future__ import annotations

import numpy as np

from sce_video.stream.draws import keyed_generator, uniforms


def test_uniforms_look_uniform() -> None:
    u = np.concatenate([uniforms(0, 0, s, 0, "crop", 40) for s in range(1000)])
    assert u.min() >= 0
    assert u.max() < 1
    counts, _ = np.histogram(u, bins=20, range=(0, 1))
    chi2 = float(((counts - 2000) ** 2 / 2000).sum())
    assert chi2 < 50  # 19 degrees of freedom: p < 1e-4 beyond


def test_draws_are_those_of_every_run_before() -> None:
    """What a seed makes is part of the contract: a run may be repeated years later."""
    u = uniforms(3, 1, 7, 0, "start", 2)
    assert u.tolist() == [0.0260620492094642, 0.8194296949533889]
    assert keyed_generator("order/3/1/d").permutation(6).tolist() == [2, 4, 0, 5, 3, 1]
