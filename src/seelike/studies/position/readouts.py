"""What is read from which features of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.errors import SeelikeError
from seelike.studies.localization.places import Place, listed, spatial_features

POOLINGS = ("mean", "cls", "quarters")
"""What the place of an object is read from."""
TOKEN = "token"
"""The place of a token, from its own features."""


@dataclass(frozen=True)
class Readout:
    """One read-out.

    Attributes:
        place: the layer; source: one of `POOLINGS`, or `TOKEN`; features: how many.
    """

    place: Place
    source: str
    features: int

    @property
    def key(self) -> str:
        """A name for the tally."""
        return f"{self.place.site.index}/{self.source}"

    def examples(self, tensor: Tensor) -> Tensor:
        """Features (n, features) of images, or (n, tokens, features), from the layer's tensor (n, *site.shape)."""
        if self.source == "cls":
            return tensor[:, 0]
        features = spatial_features(self.place.site, tensor)
        if self.source == "mean":
            return features.mean(1)
        return quarters(features, self.place.grid) if self.source == "quarters" else features


def quarters(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Means of the four quarters of a map (n, rows * columns, d), side by side (n, 4 d); a middle row is in both."""
    rows, columns = grid
    maps = features.reshape(len(features), rows, columns, -1)
    above, below = maps[:, : -(-rows // 2)], maps[:, rows // 2 :]
    halves = (
        part[:, :, side] for part in (above, below) for side in (slice(-(-columns // 2)), slice(columns // 2, None))
    )
    return torch.cat([half.mean((1, 2)) for half in halves], 1)


def token_places(grid: tuple[int, int]) -> Tensor:
    """Where the tokens of a grid stand, (tokens, 2) rows and columns in units of the image's side."""
    rows, columns = ((torch.arange(size, dtype=torch.float64) + 0.5) / size for size in grid)
    return torch.cartesian_prod(rows, columns)


def choose_readouts(
    model: str, places: Sequence[Place], poolings: Sequence[str], widest: int, notes: list[str]
) -> tuple[Readout, ...]:
    """All read-outs of a model: the poolings that a layer has, and its tokens.

    Raises:
        SeelikeError: none is left.
    """
    found: list[Readout] = []
    wide: list[str] = []
    for place in places:
        d = _features(place)
        for source in (*poolings, TOKEN):
            if source == "cls" and not place.prefix_tokens:
                continue
            features = 4 * d if source == "quarters" else d
            if features > widest:
                wide.append(f"{source} of {place.site.name} ({features})")
            else:
                found.append(Readout(place, source, features))
    if wide:
        notes.append(f"{model}: not read, as they have more than {widest} features: {listed(wide)}")
    if not found:
        raise SeelikeError(
            f"{model}: all layers chosen have more than {widest} features ({listed(wide)}); choose other layers, or a "
            "larger widest"
        )
    return tuple(found)


def _features(place: Place) -> int:
    shape, layout = place.site.shape, place.site.layout
    return shape[0] if layout.kind == "map" and not layout.channels_last else shape[-1]
