"""What tokens are compared with: patches of pixels, or of the model's patch embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from seelike.anatomy import Anatomy, LayerSite
from seelike.errors import SeelikeError
from seelike.measures.localization import TokenSums, join_positions, patches_of, token_sums
from seelike.studies.localization.places import Place, grid_of, listed, spatial_features

Grid = tuple[int, int]


@dataclass(frozen=True)
class Targets:
    """The layers of a model that are looked at, and the patches that they are compared with.

    Attributes:
        places: the layers; embedding: the layer that the patches are taken from, None for pixels.
    """

    places: tuple[Place, ...]
    embedding: LayerSite | None

    @property
    def grids(self) -> tuple[Grid, ...]:
        """Every grid that the image is cut into, once."""
        return tuple(dict.fromkeys(place.grid for place in self.places))

    @property
    def sites(self) -> tuple[LayerSite, ...]:
        """The layers whose tensors are needed, in execution order."""
        sites = {place.site.index: place.site for place in self.places}
        if self.embedding is not None:
            sites[self.embedding.index] = self.embedding
        return tuple(sites[index] for index in sorted(sites))

    def of_pixels(self, images: Tensor) -> dict[Grid, TokenSums]:
        """Patches of preprocessed images (n, channels, height, width) on every grid."""
        return {grid: token_sums(patches_of(images, grid)) for grid in self.grids}

    def of_embedding(self, tensor: Tensor) -> dict[Grid, TokenSums]:
        """Patches of the embedding's tensor (n, *shape) on every grid."""
        assert self.embedding is not None
        full = grid_of(self.embedding)
        assert full is not None
        features = spatial_features(self.embedding, tensor)
        return {grid: token_sums(join_positions(features, full, full[0] // grid[0])) for grid in self.grids}


def choose_targets(anatomy: Anatomy, places: Sequence[Place], of: str, notes: list[str]) -> Targets:
    """Pair the layers of a model with pixels, or with its patch embedding where their grids fit it.

    Raises:
        SeelikeError: no layer has a grid that the embedding's can be joined to, or an image has fewer pixels than the
            grid has cells.
    """
    if of == "pixels":
        _, height, width = anatomy.input_size
        for place in places:
            if place.grid[0] > height or place.grid[1] > width:
                raise SeelikeError(
                    f"{anatomy.name}: {place.site.name} has {place.grid[0]} x {place.grid[1]} positions and the image "
                    f"only {height} x {width} pixels; choose a smaller finest, or other layers"
                )
        return Targets(tuple(places), None)
    embedding = next((s for s in anatomy.layers if s.kind in ("embed", "conv") and grid_of(s) is not None), None)
    if embedding is None:
        raise SeelikeError(f"{anatomy.name} has no layer that embeds patches; compare with pixels instead")
    grid = grid_of(embedding)
    assert grid is not None
    fitting = tuple(place for place in places if _fits(grid, place.grid))
    if not fitting:
        raise SeelikeError(
            f"{anatomy.name}: the grid of its embedding {embedding.name} ({grid[0]} x {grid[1]}) cannot be joined to "
            f"that of any layer chosen ({listed(p.site.name for p in places)}); compare with pixels instead"
        )
    rest = [place.site.name for place in places if place not in fitting]
    if rest:
        notes.append(f"{anatomy.name}: left out, as their grids do not fit that of {embedding.name}: {listed(rest)}")
    return Targets(fitting, embedding)


def _fits(full: Grid, grid: Grid) -> bool:
    rows, columns = full[0] // grid[0], full[1] // grid[1]
    return rows == columns > 0 and (grid[0] * rows, grid[1] * columns) == full
