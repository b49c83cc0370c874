"""The position study: what layers tell of where things are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import xarray as xr
from matplotlib.figure import Figure

from seelike.anatomy import Anatomy
from seelike.errors import SeelikeError, close_matches
from seelike.studies.base import Design, Study
from seelike.studies.localization.places import choose_places
from seelike.studies.position.fold import PositionFold
from seelike.studies.position.readouts import POOLINGS, choose_readouts
from seelike.studies.position.split import split_images


@dataclass(frozen=True)
class Position(Study):
    """How well places can be read off features by a linear map (paper.md 5.5; Islam et al. 2021).

    Two questions: where the object of a scene is, from an image's features (generated scenes know it: `scenes:`), and
    where on the grid a token stands, from that token's features alone. Ridge regression in closed form to (row,
    column): fitted to the first part of the images in the order in which they are shown, lambda chosen on a fifth of
    these, R^2 on the rest; no image is in both parts. R^2 is 1 for a place that is known exactly and about 0 for one
    that cannot be read. Its error is that of the images that it is evaluated on, not of those that it is fitted to.
    Only the first repeat of a run is used.

    Args:
        layers: ``blocks`` (the outputs of all blocks), ``sublayers``, ``all``, or globs over layer names.
        poolings: what the object's place is read from: ``mean`` over spatial tokens, ``cls``, ``quarters`` (means of
            the four quarters of the map, side by side).
        fit: share of the images to fit to.
        token_images: of so many images the tokens are taken, for a token's own place.
        widest: more features than that are not fitted to (the sums take widest^2 numbers), with a note.

    The results lie at ``/position/<model>``.
    """

    name: ClassVar[str] = "position"
    question: ClassVar[str] = "Can the place of an object, and a token's own place, be read off the features?"
    fewest_images: ClassVar[int] = 1

    layers: str | Sequence[str] = "blocks"
    poolings: tuple[str, ...] = POOLINGS
    fit: float = 0.5
    token_images: int = 512
    widest: int = 2048

    def __post_init__(self) -> None:
        if not isinstance(self.layers, str):
            object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "poolings", tuple(self.poolings))
        for pooling in self.poolings:
            if pooling not in POOLINGS:
                raise SeelikeError(
                    f"a pooling of the position study is {', '.join(POOLINGS)}, not {pooling!r}"
                    f"{close_matches(pooling, POOLINGS)}"
                )
        if not 0 < self.fit < 1:
            raise SeelikeError(f"fit of the position study is a share of the images between 0 and 1, not {self.fit}")

    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> PositionFold:
        notes: list[str] = []
        places = choose_places(anatomies, self.layers, 1 << 30, self.name, notes)
        truths = design.samples.truths
        if truths is None:
            notes.append(
                f"{design.samples.name} does not tell where objects are, so the position study reads only the places "
                "of tokens; generated scenes do (scenes:test)"
            )
        poolings = self.poolings if truths is not None else ()
        readouts = {model: choose_readouts(model, places[model], poolings, self.widest, notes) for model in anatomies}
        split = split_images(design.samples.order, self.fit, self.token_images)
        return PositionFold(anatomies, readouts, split, design, notes)

    def figures(self, results: xr.DataTree) -> dict[str, Figure]:
        from seelike.studies.position.figure import draw

        return draw(results)
