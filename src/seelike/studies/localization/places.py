"""Layers with positions: how their tokens lie on the image, and their features token by token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from seelike.anatomy import Anatomy, LayerSite
from seelike.errors import SeelikeError
from seelike.measures.localization import join_positions


@dataclass(frozen=True)
class Place:
    """A layer whose positions form a grid on the image.

    Attributes:
        site: the layer.
        grid: rows and columns of tokens after joining; factor: side of the squares of positions that were joined.
    """

    site: LayerSite
    grid: tuple[int, int]
    factor: int = 1

    @property
    def tokens(self) -> int:
        """How many tokens, prefix tokens left out."""
        return self.grid[0] * self.grid[1]

    @property
    def prefix_tokens(self) -> int:
        """How many tokens come before those of the image."""
        return self.site.layout.prefix_tokens if self.site.layout.kind == "tokens" else 0

    def features(self, tensor: Tensor) -> Tensor:
        """Features of every token, (n, tokens, d), row by row, from the layer's tensor (n, *site.shape)."""
        full = (self.grid[0] * self.factor, self.grid[1] * self.factor)
        return join_positions(spatial_features(self.site, tensor), full, self.factor)


def spatial_features(site: LayerSite, tensor: Tensor) -> Tensor:
    """Features of every position, (n, rows * columns, d), row by row, prefix tokens left out."""
    layout = site.layout
    if layout.kind == "tokens":
        return tensor[:, layout.prefix_tokens :]
    return tensor.flatten(1, 2) if layout.channels_last else tensor.flatten(2).transpose(1, 2)


def grid_of(site: LayerSite) -> tuple[int, int] | None:
    """Rows and columns of a layer's positions, None where it has none, or only one."""
    layout = site.layout
    if layout.kind not in ("tokens", "map") or layout.grid is None or layout.grid[0] * layout.grid[1] < 2:
        return None
    rows, columns = layout.grid
    if layout.kind == "tokens" and (len(site.shape) != 2 or site.shape[0] != layout.prefix_tokens + rows * columns):
        return None
    return rows, columns


def joining_factor(grid: tuple[int, int], finest: int) -> int | None:
    """Side of the squares to join so that no side of the grid has more than `finest` cells; None if nothing fits."""
    for factor in range(1, min(grid) + 1):
        if not (grid[0] % factor or grid[1] % factor) and max(grid) // factor <= finest:
            return factor if grid[0] * grid[1] > factor * factor else None
    return None


def choose_places(
    anatomies: Mapping[str, Anatomy], layers: str | Sequence[str], finest: int, study: str, notes: list[str]
) -> dict[str, tuple[Place, ...]]:
    """The layers of every model that have positions, in execution order; `notes` names those that have none.

    Raises:
        SeelikeError: a word that fits no model, a model without any such layer.
    """
    return {model: _places(model, sites, finest, study, notes) for model, sites in _selected(anatomies, layers).items()}


def _places(model: str, sites: Sequence[LayerSite], finest: int, study: str, notes: list[str]) -> tuple[Place, ...]:
    found: list[Place] = []
    without: list[str] = []
    for site in sites:
        grid = grid_of(site)
        factor = joining_factor(grid, finest) if grid is not None else None
        if grid is None or factor is None:
            without.append(f"{site.name} {site.shape}")
        else:
            found.append(Place(site, (grid[0] // factor, grid[1] // factor), factor))
    if not found:
        raise SeelikeError(
            f"{model}: the {study} study needs layers with positions (tokens on a grid or maps), and none of those "
            f"chosen has any: {listed(without)}; choose other layers, such as 'blocks', or say how the tokens lie with "
            "the layout option of the model"
        )
    if without:
        notes.append(f"{model}: left out by the {study} study, as they have no grid of positions: {listed(without)}")
    joined = [place.site.name for place in found if place.factor > 1]
    if joined:
        notes.append(
            f"{model}: neighbouring positions of {listed(joined)} are joined into squares, as their grids are finer "
            f"than {finest} x {finest}"
        )
    return tuple(found)


def _selected(anatomies: Mapping[str, Anatomy], layers: str | Sequence[str]) -> dict[str, tuple[LayerSite, ...]]:
    """A word in `layers` is meant for the models that know it, and an error when none does."""
    found: dict[str, tuple[LayerSite, ...]] = {}
    failures: dict[str, dict[str, SeelikeError]] = {model: {} for model in anatomies}
    words = [layers] if isinstance(layers, str) else list(layers)
    for model, anatomy in anatomies.items():
        known = []
        for word in words:
            try:
                anatomy.select(word)
                known.append(word)
            except SeelikeError as error:
                failures[model][word] = error
        if known:
            found[model] = anatomy.select(known)
    for word in words:
        if all(word in failed for failed in failures.values()):
            raise next(iter(failures.values()))[word]
    for model, failed in failures.items():
        if model not in found:
            raise next(iter(failed.values()), SeelikeError(f"{model}: no layers were asked for"))
    return found


def listed(names: Iterable[str], most: int = 4) -> str:
    """Some names in a sentence."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
