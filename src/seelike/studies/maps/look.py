"""Run a model on some images and take from its attentions, one at a time, what the maps need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.anatomy import Anatomy
from seelike.measures.rollout import rollout_step, token_map
from seelike.studies.attention.weights import reading, weights
from seelike.studies.base import Reading
from seelike.studies.maps.view import Grid, View, Views


@dataclass(frozen=True)
class Looked:
    """What n images show, float64 on the CPU.

    Attributes:
        maps: (n, views, heads, rows, columns), 0 where there is no head or the query does not reach.
        rollout: (n, rows, columns) or None.
    """

    maps: Tensor
    rollout: Tensor | None


def look(model: str, anatomy: Anatomy, views: Views, images: Tensor, *, check: bool) -> Looked:
    """Run `model` once on preprocessed images (n, channels, height, width).

    Args:
        check: make sure that recomputed weights are those of the fused kernel; raises `SeelikeError` when not.
    """
    looking = _Looking(model, anatomy, views, len(images), check)
    with torch.inference_mode():
        anatomy.run(anatomy.inputs(images), looking.taps())
    return looking.found()


class _Looking:
    """One run."""

    def __init__(self, model: str, anatomy: Anatomy, views: Views, images: int, check: bool) -> None:
        self.model, self.anatomy, self.views, self.check = model, anatomy, views, check
        self.maps = torch.zeros(images, len(views.views), views.heads, *views.grid, dtype=torch.float64)
        self.rollout: Tensor | None = None
        self._held: dict[int, dict[str, Tensor]] = {}

    def found(self) -> Looked:
        views, placed = self.views, self.views.sites[0]
        if self.rollout is None:
            return Looked(self.maps, None)
        prefix = {"query_prefix": placed.query_prefix, "key_prefix": placed.key_prefix}
        row = token_map(self.rollout, views.views[0].token, **prefix)
        return Looked(self.maps, row.reshape(-1, *views.views[0].grid).cpu().double())

    def taps(self) -> dict[str, Callable[[Tensor], None]]:
        wanted: dict[str, list[tuple[int, Reading]]] = {}
        for number, site in enumerate(self.views.sites):
            if number in self.views.chosen or self.views.skips is not None:
                each = reading(site, shares=True)
                for point in each.points:
                    wanted.setdefault(point, []).append((number, each))
        return {point: self._receiver(point, sites) for point, sites in wanted.items()}

    def _receiver(self, point: str, sites: list[tuple[int, Reading]]) -> Callable[[Tensor], None]:
        def receive(tensor: Tensor) -> None:
            for number, each in sites:
                held = self._held.setdefault(number, {})
                held[point] = tensor
                if len(held) == len(set(each.points)):
                    self._take(number, tuple(held[p] for p in each.points))
                    del self._held[number]

        return receive

    def _take(self, number: int, tensors: tuple[Tensor, ...]) -> None:
        """Look at the weights of site `number`: its map, and its step of the rollout."""
        views, placed = self.views, self.views.sites[number]
        view = views.views[views.chosen.index(number)] if number in views.chosen else None
        flat = torch.zeros(0)
        if view is not None:
            flat = torch.zeros(len(self.maps), placed.heads, view.grid[0] * view.grid[1], dtype=torch.float64)
        mean: Tensor | None = None
        for rows, heads, part in weights(self.model, self.anatomy, placed, tensors, check=self.check):
            if view is not None:
                _place(view, rows.start, heads.start, part, flat)
            if views.skips is not None:
                if mean is None:
                    mean = part.new_zeros(len(self.maps), *part.shape[2:])
                mean[rows] += part.sum(1) / placed.heads
        if view is not None:
            self.maps[:, views.chosen.index(number), : placed.heads] = spread(flat, view.grid, views.grid)
        if mean is not None and views.skips is not None:
            step = rollout_step(mean, skip=views.skips[number])
            self.rollout = step if self.rollout is None else step @ self.rollout


def _place(view: View, row: int, head: int, part: Tensor, flat: Tensor) -> None:
    """Put the query's weights on the picture.

    Args:
        part: weights (r, h, queries, keys) of rows (of every image its windows) from `row` on and heads from `head` on.
        flat: (n, heads, cells), written to.
    """
    placed = view.placed
    line = token_map(part, view.token, query_prefix=placed.query_prefix, key_prefix=placed.key_prefix).cpu().double()
    line = line / placed.windows if view.token is None else line
    rows = torch.arange(row, row + len(line))
    images, windows = rows // placed.windows, rows % placed.windows
    met = torch.ones_like(rows, dtype=torch.bool) if view.window is None else windows == view.window
    heads = torch.arange(head, head + line.shape[1])
    flat[images[met, None, None], heads[None, :, None], view.cells[windows[met]][:, None]] = line[met]


def spread(flat: Tensor, own: Grid, grid: Grid) -> Tensor:
    """Values of the cells (..., rows * columns) of a coarser grid, at every cell of a finer one (..., *grid)."""
    rows, columns = (((torch.arange(size) + 0.5) * mine / size).long() for size, mine in zip(grid, own, strict=True))
    return flat.reshape(*flat.shape[:-1], *own)[..., rows[:, None], columns]
