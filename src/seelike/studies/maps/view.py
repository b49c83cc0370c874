"""From which token of every attention one looks, and where on the picture its keys lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.anatomy import Anatomy
from seelike.anatomy.positions import PlacedAttention
from seelike.anatomy.windows import Example, window_cells
from seelike.errors import SeelikeError

Query = str | int | tuple[int, int]
Grid = tuple[int, int]


@dataclass(frozen=True)
class View:
    """One attention as it is looked at.

    Attributes:
        placed: the attention.
        grid: rows and columns of its keys on the image.
        cells: (windows, keys) the cell of every key with a place, counted row by row.
        window, token: of the query; both None for the mean over all queries with a place.
    """

    placed: PlacedAttention
    grid: Grid
    cells: Tensor
    window: int | None
    token: int | None

    @property
    def uniform(self) -> float:
        """Weight of a key in attention that weighs all alike."""
        keys = self.placed.site.key_tokens
        return 1 / (keys if self.window is not None else keys * self.placed.windows)

    def reach(self) -> Tensor:
        """(rows, columns) which cells the query can look at."""
        found = torch.zeros(self.grid[0] * self.grid[1], dtype=torch.bool)
        found[(self.cells if self.window is None else self.cells[self.window]).flatten()] = True
        return found.reshape(self.grid)


@dataclass(frozen=True)
class Views:
    """All that is looked at in one model.

    Attributes:
        sites: all attentions with a place, in execution order; chosen: numbers of those that maps are made of.
        views: of the chosen ones; grid: the finest of their grids, which all maps are drawn on.
        query: the token in words; patch: its (row, column) when it is one.
        skips: whether a skip leads around each of the sites; None when there is no rollout.
    """

    sites: tuple[PlacedAttention, ...]
    chosen: tuple[int, ...]
    views: tuple[View, ...]
    grid: Grid
    query: str
    patch: Grid | None
    skips: tuple[bool, ...] | None

    @property
    def heads(self) -> int:
        """Most heads of a view."""
        return max(view.placed.heads for view in self.views)


def plan_views(
    model: str,
    anatomy: Anatomy,
    sites: Sequence[PlacedAttention],
    query: Query,
    blocks: tuple[int, ...] | None,
    notes: list[str],
) -> Views:
    """Find the query in every chosen attention. Notes say what was taken for ``auto``, and why there is no rollout.

    Raises:
        SeelikeError: a block that is not there, a class token or patch that is not there.
    """
    chosen = _choose_blocks(model, sites, blocks)
    if query in ("auto", "cls"):
        query = _class_token(model, [sites[i] for i in chosen], query, notes)
    windowed = any(sites[i].windows > 1 for i in chosen)
    example = Example(anatomy) if windowed else None
    views = tuple(_view(model, anatomy, sites[i], query, sites[0], example) for i in chosen)
    reason = _why_no_rollout(anatomy, sites)
    skips = None if reason else tuple(_has_skip(anatomy, site) for site in sites)
    if reason:
        notes.append(f"{model}: no rollout, for {reason}")
    cut = [site.site.name for site, skip in zip(sites, skips or (), strict=False) if not skip]
    if cut:
        notes.append(f"{model}: no skip leads around {', '.join(cut)}, so rollout takes that attention without A + I")
    patch = query if isinstance(query, tuple) else None
    return Views(
        tuple(sites),
        chosen,
        views,
        (max(v.grid[0] for v in views), max(v.grid[1] for v in views)),
        _query_words(query),
        patch,
        skips,
    )


def _choose_blocks(model: str, sites: Sequence[PlacedAttention], blocks: tuple[int, ...] | None) -> tuple[int, ...]:
    count = len(sites)
    for block in blocks or ():
        if not -count <= block < count:
            has = f"has {count} attentions with a place in the image, 0 to {count - 1} (or -1 to -{count})"
            raise SeelikeError(f"{model} has no block {block} to draw attention maps of: it {has}")
    return tuple(range(count)) if blocks is None else tuple(dict.fromkeys(block % count for block in blocks))


def _class_token(model: str, sites: Sequence[PlacedAttention], query: Query, notes: list[str]) -> Query:
    without = next((site for site in sites if not site.query_prefix), None)
    if without is None:
        return 0
    if query == "cls":
        raise SeelikeError(
            f"{model} has no prefix tokens at {without.site.name}, only {len(without.queries)} queries with a place, "
            "so there is no class token to look from; use query mean or the (row, column) of a patch"
        )
    notes.append(f"{model} has no class token: its attention maps are means over all patches")
    return "mean"


def _query_grid(site: PlacedAttention, image: tuple[int, int]) -> Grid:
    return round(image[0] / site.patch[0]), round(image[1] / site.patch[1])


def _view(
    model: str,
    anatomy: Anatomy,
    placed: PlacedAttention,
    query: Query,
    first: PlacedAttention,
    example: Example | None,
) -> View:
    image = anatomy.input_size[1:]
    own = _query_grid(placed, image)
    if placed.windows > 1:
        assert example is not None
        grid, cells = own, window_cells(anatomy, placed.site, example, own)
    else:
        rows, columns = (len(set(placed.keys[:, axis].tolist())) for axis in (0, 1))
        grid, cells = (rows, columns), torch.arange(rows * columns)[None]
    if query == "mean":
        return View(placed, grid, cells, None, None)
    if isinstance(query, int):
        if query >= placed.query_prefix:
            count = placed.query_prefix
            has = f"{count or 'no'} prefix token{'s' * (count != 1)}"
            raise SeelikeError(
                f"{model} has {has} at {placed.site.name}, so none of number {query} to look from (they count from 0)"
            )
        return View(placed, grid, cells, 0, query)
    assert isinstance(query, tuple)
    cell = _cell(model, query, _query_grid(first, image), own)
    if placed.windows > 1:
        window, token = (int(at) for at in (cells == cell).nonzero()[0])
        return View(placed, grid, cells, window, token)
    return View(placed, grid, cells, 0, placed.query_prefix + cell)


def _cell(model: str, query: tuple[int, int], first: Grid, own: Grid) -> int:
    """The cell of an attention's own grid that holds the middle of a patch of the first grid."""
    if not all(0 <= q < size for q, size in zip(query, first, strict=True)):
        raise SeelikeError(
            f"query ({query[0]}, {query[1]}) is outside the grid of {model}, which has {_words(first)} patches; rows "
            "and columns count from 0"
        )
    row, column = (int((q + 0.5) * mine / size) for q, size, mine in zip(query, first, own, strict=True))
    return row * own[1] + column


def _query_words(query: Query) -> str:
    if isinstance(query, tuple):
        return f"patch ({query[0]}, {query[1]})"
    if isinstance(query, str):
        return "the mean of all patches"
    return f"prefix token {query}" if query else "the class token"


def _words(grid: Grid) -> str:
    return f"{grid[0]} x {grid[1]}"


def _has_skip(anatomy: Anatomy, placed: PlacedAttention) -> bool:
    """Whether a skip leads around an attention; a block whose skip was cut has an MLP's at most."""
    return any(r.block == placed.site.block and r.branch_kind != "mlp" for r in anatomy.residuals)


def _why_no_rollout(anatomy: Anatomy, sites: Sequence[PlacedAttention]) -> str:
    """Why the attentions of a model cannot be multiplied to a rollout; empty when they can."""
    if len(sites) < len(anatomy.attentions):
        return "some of its attentions have no place in the image"
    for placed in sites:
        site = placed.site
        if placed.windows > 1:
            return f"{site.name} attends in windows, and maps of windows do not chain"
        if site.query_tokens != site.key_tokens:
            return (
                f"{site.name} has {site.query_tokens} queries and {site.key_tokens} keys, and rectangular attention "
                "does not chain"
            )
        if site.query_tokens != sites[0].site.query_tokens or not torch.equal(placed.queries, sites[0].queries):
            return f"{site.name} attends on another grid than {sites[0].site.name}, so that they do not chain"
    blocks = [placed.site.block for placed in sites]
    if len(sites) > 1 and len({b for b in blocks if b is not None}) < sum(b is not None for b in blocks):
        return "several attentions of a block run side by side, so that they do not chain"
    return ""
