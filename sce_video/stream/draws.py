"""Random numbers as pure functions of a key: independent of rank, worker, device and order.

A clip is the same wherever and whenever it is made.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Purpose = Literal["start", "difference", "crop", "colour", "negatives"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniforms(
    seed: int, epoch: int, sample: int, view: int, purpose: Purpose, count: int
) -> NDArray[np.float64]:
    """``count`` numbers uniform in [0,1): SplitMix64 (Steele et al., 2014) from a hashed key.

    The key is all arguments but ``count``.
    """
    key = hashlib.sha256(f"{seed}/{epoch}/{sample}/{view}/{purpose}".encode()).digest()
    z = np.frombuffer(key, np.uint64, 1) + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    uniform: NDArray[np.float64] = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return uniform


def keyed_generator(key: str) -> np.random.Generator:
    """NumPy's generator, seeded by a key: for permutations."""
    digest = hashlib.sha256(key.encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
