"""How much of an object is hidden."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seelike.images.scenes.layout import Layout
from seelike.images.scenes.render import object_cover, part_of, pieces_cover

# Points per side of the grid on which areas are measured, and scenes at a time.
_GRID = 96
_STEP = 8


def occlusion(layout: Layout) -> NDArray[np.float64]:
    """Share of each object's area that its occluder hides, of shape (n,); on a grid, to about 0.002."""
    shares = np.empty(len(layout.label))
    centres = ((np.arange(_GRID) + 0.5) / _GRID).astype(np.float32)
    x, y = centres[None, None, :], centres[None, :, None]
    for start in range(0, len(shares), _STEP):
        some = part_of(layout, slice(start, start + _STEP))
        width = np.full((len(some.label), 1, 1), 1 / _GRID, np.float32)
        cover = object_cover(some, x, y, width).astype(np.float64)
        hidden = cover * pieces_cover(some.occluder, 0, x, y, width)
        shares[start : start + _STEP] = hidden.sum((1, 2)) / cover.sum((1, 2))
    return shares
