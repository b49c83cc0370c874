"""Which places of which tensors a receptive field is measured at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from seelike.anatomy import Anatomy, LayerSite, Layout, Point, ResidualSite
from seelike.errors import SeelikeError


@dataclass(frozen=True)
class Target:
    """One place of one tensor.

    Attributes:
        name: unique among the targets of a model; site: the layer or residual sum that it belongs to.
        point: of the tensor; stage: ``after`` the residual sum (or any layer), or ``before`` it, on the branch.
        branch_kind: attention, mlp, conv, other; "" for layers that are no residual sum.
        grid: rows and columns of positions; row, column: the place among them.
        relative_depth: of the site in the model.
    """

    name: str
    site: LayerSite | ResidualSite
    point: Point
    stage: Literal["after", "before"]
    branch_kind: str
    block: str
    grid: tuple[int, int]
    row: int
    column: int
    channels: int
    relative_depth: float

    def features(self, tensor: Tensor) -> Tensor:
        """The features of the place, (n, channels), of the site's raw tensor."""
        tensor, layout = self.site.batch_first(tensor), self.site.layout
        if layout.kind == "tokens":
            return tensor[:, layout.prefix_tokens + self.row * self.grid[1] + self.column]
        if layout.channels_last:
            return tensor[:, self.row, self.column]
        return tensor[:, :, self.row, self.column]

    def cell(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns of pixels that belong to the place when the grid tiles the image."""
        rows, columns = self.grid
        return (
            (self.row * height // rows, (self.row + 1) * height // rows),
            (self.column * width // columns, (self.column + 1) * width // columns),
        )

    def middle(self, height: int, width: int) -> tuple[float, float]:
        """Middle of the place's cell in pixels, counted from the middle of the first pixel."""
        rows, columns = self.cell(height, width)
        return (rows[0] + rows[1] - 1) / 2, (columns[0] + columns[1] - 1) / 2


def choose_targets(
    anatomy: Anatomy,
    layers: str | Sequence[str],
    before: bool,
    location: tuple[int, int] | None,
    notes: list[str],
) -> tuple[Target, ...]:
    """The targets of one model in execution order; layers without positions are left out and named in `notes`."""
    sums = {site.sum: site for site in anatomy.residuals}
    found: list[Target] = []
    without: list[str] = []
    for site in _layers(anatomy, layers):
        grid = grid_of(site.layout, site.shape)
        if grid is None:
            without.append(f"{site.name} {site.shape}")
            continue
        residual = sums.get(site.point)
        if before and residual is not None:
            found.append(_target(anatomy, site, residual, grid, location))
        found.append(_target(anatomy, site, None, grid, location, residual))
    if without and found:
        notes.append(f"{anatomy.name}: no receptive field for layers without positions: {', '.join(without[:4])}")
    if not found:
        raise SeelikeError(
            f"{anatomy.name}: a receptive field needs a layer with positions (tokens or a map), and none of those "
            f"chosen has any ({', '.join(without[:4]) or 'no residual sums'}); choose other --layers, such as 'all'"
        )
    return tuple(found)


def _layers(anatomy: Anatomy, layers: str | Sequence[str]) -> list[LayerSite]:
    """The layers meant; ``residuals`` are the first layer with positions and all residual sums."""
    if layers != "residuals":
        return list(anatomy.select(layers))
    sums = {site.sum for site in anatomy.residuals}
    chosen = [site for site in anatomy.layers if site.point in sums]
    first = [s for s in anatomy.layers if grid_of(s.layout, s.shape) is not None and s.kind in ("conv", "embed")]
    return first[:1] + [site for site in chosen if site not in first[:1]]


def grid_of(layout: Layout, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Rows and columns of the positions of one example's tensor, None without a layout of positions."""
    if layout.kind == "tokens":
        return layout.grid
    if layout.kind == "map" and len(shape) == 3:
        return (shape[0], shape[1]) if layout.channels_last else (shape[1], shape[2])
    return None


def _target(
    anatomy: Anatomy,
    site: LayerSite,
    before: ResidualSite | None,
    grid: tuple[int, int],
    location: tuple[int, int] | None,
    residual: ResidualSite | None = None,
) -> Target:
    row, column = location or (grid[0] // 2, grid[1] // 2)
    if not (0 <= row < grid[0] and 0 <= column < grid[1]):
        raise SeelikeError(
            f"{anatomy.name}: location ({row}, {column}) is outside the {grid[0]} x {grid[1]} positions of "
            f"{site.name}; rows and columns are counted from 0"
        )
    channels_first = site.layout.kind == "map" and not site.layout.channels_last
    return Target(
        name=f"{before.name} (branch)" if before else site.name,
        site=before or site,
        point=before.branch if before else site.point,
        stage="before" if before else "after",
        branch_kind=before.branch_kind if before else residual.branch_kind if residual else "",
        block=site.block or "",
        grid=grid,
        row=row,
        column=column,
        channels=site.shape[0] if channels_first else site.shape[-1],
        relative_depth=site.relative_depth,
    )
