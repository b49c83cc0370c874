"""Sines and cosines of turns, the same for a number wherever in an array it stands."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]

# NumPy may compute the ends of an array by other instructions than its middle, and so differ in the last
# bit; an image must not depend on which others are made with it.


def cosines(turns: Column) -> Column:
    """Cosines of angles given in turns, of the same shape."""
    return _each(math.cos, turns)


def sines(turns: Column) -> Column:
    """Sines of angles given in turns, of the same shape."""
    return _each(math.sin, turns)


def _each(function: Callable[[float], float], turns: Column) -> Column:
    radians = (2 * math.pi * turns).ravel().tolist()
    return np.array([function(angle) for angle in radians], np.float64).reshape(turns.shape)
