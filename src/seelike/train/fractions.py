"""Which of the training images are used: held-out ones and nested fractions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seelike.errors import SeelikeError

HELD_OUT = 1
FRACTION = 2


def held_out(total: int, number: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the rows of a data set without a validation split into (training, validation)."""
    if number >= total:
        raise SeelikeError(f"images.held_out takes {number} of {total} training images, which leaves none to train on")
    order = np.random.default_rng([seed, HELD_OUT]).permutation(total)
    return np.sort(order[number:]), np.sort(order[:number])


def nested_fraction(rows: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.int64]:
    """Return the share `fraction` of `rows`; with the same seed, smaller shares are parts of larger ones.

    The rows keep their order. Raises `SeelikeError` when the fraction lies outside (0, 1] or leaves no image.
    """
    if not 0 < fraction <= 1:
        raise SeelikeError(f"a fraction must lie in (0, 1], not be {fraction}")
    number = round(fraction * len(rows))
    if number < 1:
        raise SeelikeError(f"a fraction of {fraction} leaves none of {len(rows)} training images")
    order = np.random.default_rng([seed, FRACTION]).permutation(len(rows))
    return np.sort(rows[order[:number]])
