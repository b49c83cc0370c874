"""How much of the attention falls on the object, where it is known where the object is.

All that is kept are sums over images, of one row of numbers per image: the object's share of the picture, its share
of each map, the cells that its box covers, and the maps. The means of the last two say what share falls on the
boxes of *other* images (of all n: the own one makes the difference smaller by 1 / n), which is the chance level:
attention that prefers the middle of every picture meets objects there without looking for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seelike.measures.rollout import box_cover, unit_mass
from seelike.studies.base import Samples
from seelike.studies.maps.look import Looked
from seelike.studies.maps.view import Grid, Views

NEEDED = ("row", "column", "size")


def knows_objects(samples: Samples) -> bool:
    """Whether the places of objects are known."""
    if samples.truths is None or not len(samples.ids):
        return False
    return set(NEEDED) <= set(samples.truths([0]))


def object_cover(samples: Samples, indices: Sequence[int], grid: Grid) -> Tensor:
    """Share of every cell (n, rows, columns) that is in the box around the object's circle."""
    assert samples.truths is not None
    truths = samples.truths(indices)
    row, column, size = (torch.from_numpy(np.asarray(truths[name], np.float64)) for name in NEEDED)
    half = size / 2
    return box_cover(torch.stack([row - half, column - half, row + half, column + half], 1), grid)


@dataclass(frozen=True)
class Rows:
    """The numbers of one image in a row: area; of each kind of map the share on the object; cover; the maps.

    Attributes:
        kinds: ``rollout`` where there is one, ``last``, the mean over heads of the last chosen attention.
        cells: of the grid.
    """

    kinds: tuple[str, ...]
    cells: int

    @classmethod
    def of(cls, views: Views) -> Rows:
        """Those of a model."""
        kinds = ("rollout", "last") if views.skips is not None else ("last",)
        return cls(kinds, views.grid[0] * views.grid[1])

    @property
    def length(self) -> int:
        """Numbers in a row."""
        return 1 + len(self.kinds) + (1 + len(self.kinds)) * self.cells

    def pack(self, looked: Looked, views: Views, cover: Tensor) -> Tensor:
        """(n, length) from the maps of n images and the cover (n, rows, columns) of their objects."""
        heads = views.views[-1].placed.heads
        maps = [unit_mass(looked.maps[:, -1, :heads].mean(1))]
        if looked.rollout is not None:
            maps = [unit_mass(looked.rollout), *maps]
        shares = [cover.mean((1, 2)), *((each * cover).sum((1, 2)) for each in maps)]
        return torch.cat([torch.stack(shares, 1), *(each.flatten(1) for each in (cover, *maps))], 1)

    def area(self, means: Tensor) -> Tensor:
        """Mean share of the picture that the box covers, of mean rows (..., length)."""
        return means[..., 0]

    def share(self, means: Tensor, kind: str) -> Tensor:
        """Mean share of a kind of map that falls on the box."""
        return means[..., 1 + self.kinds.index(kind)]

    def chance(self, means: Tensor, kind: str) -> Tensor:
        """Mean share that falls on the boxes of other images."""
        cover, mean_map = self._maps(means, 0), self._maps(means, 1 + self.kinds.index(kind))
        return (cover * mean_map).sum(-1)

    def _maps(self, means: Tensor, number: int) -> Tensor:
        first = 1 + len(self.kinds) + number * self.cells
        return means[..., first : first + self.cells]


def head_shares(looked: Looked, cover: Tensor) -> Tensor:
    """Share of every head's map that falls on the box, (n, views, heads)."""
    return (unit_mass(looked.maps) * cover[:, None, None]).sum((-2, -1))
