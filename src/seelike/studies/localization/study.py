"""The localization study: whether tokens still stand for their own patch of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import xarray as xr
from matplotlib.figure import Figure

from seelike.anatomy import Anatomy
from seelike.errors import SeelikeError
from seelike.studies.base import Design, Study
from seelike.studies.localization.fold import LocalizationFold
from seelike.studies.localization.places import choose_places
from seelike.studies.localization.targets import choose_targets

Of = Literal["pixels", "embedding"]


@dataclass(frozen=True)
class Localization(Study):
    """CKA between every token of a layer and every patch of the image (Figures 9, 10, D.1-D.3; paper.md 3).

    A token's features over the images against a patch's pixels over the same images: unbiased minibatch CKA, all
    tokens and patches at once. Prefix tokens (class token, registers) are left out. The image is cut into as many
    patches as the layer has tokens; a map's token is a position with all its channels, so a 7 x 7 map has patches of
    32 x 32 pixels.

    Args:
        layers: ``blocks`` (the outputs of all blocks), ``sublayers``, ``all``, or globs over layer names.
        of: what the patches are: ``pixels``, as the model gets them after preprocessing; ``embedding``, the model's
            first layer with positions (a ViT's patch embedding).
        finest: no layer is looked at on a finer grid than so many rows and columns: positions of finer maps are
            joined in squares (all features of the square together). Give the grid of the coarsest layer to compare
            layers and models at one chance level.

    The results lie at ``/localization/<model>``.
    """

    name: ClassVar[str] = "localization"
    question: ClassVar[str] = "Do tokens still stand for their own patch of the image? (CKA of tokens with patches)"

    layers: str | Sequence[str] = "blocks"
    of: Of = "pixels"
    finest: int = 16

    def __post_init__(self) -> None:
        if not isinstance(self.layers, str):
            object.__setattr__(self, "layers", tuple(self.layers))
        if self.of not in ("pixels", "embedding"):
            raise SeelikeError(f"of is pixels or embedding, not {self.of!r}")
        if self.finest < 2:
            raise SeelikeError(f"finest of the localization study must be at least 2, not {self.finest}")

    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> LocalizationFold:
        notes: list[str] = []
        places = choose_places(anatomies, self.layers, self.finest, self.name, notes)
        targets = {
            model: choose_targets(anatomy, places[model], self.of, notes) for model, anatomy in anatomies.items()
        }
        return LocalizationFold(anatomies, targets, design, notes)

    def figures(self, results: xr.DataTree) -> dict[str, Figure]:
        from seelike.studies.localization.figure import draw

        return draw(results)
