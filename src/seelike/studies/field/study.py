"""The receptive field study: what part of the image a place of a layer is sensitive to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import xarray as xr
from matplotlib.figure import Figure

from seelike.anatomy import Anatomy
from seelike.anatomy.theory import theoretical_fields
from seelike.errors import SeelikeError
from seelike.studies.base import Design, Study
from seelike.studies.field.fold import FieldFold
from seelike.studies.field.targets import choose_targets

Projection = Literal["channels", "gaussian"]


@dataclass(frozen=True)
class ReceptiveField(Study):
    """Effective receptive fields (Figures 6 and C.1-C.4 of the paper; paper.md 2.3; Luo et al. 2016).

    The gradient of a place's features with respect to the pixels: absolute value, summed over colours, averaged over
    channels and images.

    Args:
        layers: ``residuals`` (the first layer with positions and every residual sum), ``blocks``, ``sublayers``,
            ``all``, or globs over layer names.
        before: also measure the branch before each residual sum.
        images: how many images to average over (the paper: 32).
        channels: how many channels, drawn for every image anew, or None for all. The error covers the draw.
        location: (row, column) among the positions, from 0; None for the centre, (rows // 2, columns // 2).
        projection: ``channels``, the paper's; ``gaussian`` takes random combinations of all channels instead, which
            estimates the Euclidean norm over channels times sqrt(2 / pi), another quantity.

    The results lie at ``/field/<model>``.
    """

    name: ClassVar[str] = "field"
    question: ClassVar[str] = "What part of the image is a place of a layer sensitive to? (effective receptive field)"

    layers: str | Sequence[str] = "residuals"
    before: bool = True
    images: int = 32
    channels: int | None = 32
    location: tuple[int, int] | None = None
    projection: Projection = "channels"

    def __post_init__(self) -> None:
        if not isinstance(self.layers, str):
            object.__setattr__(self, "layers", tuple(self.layers))
        for name, value in (("images", self.images), ("channels", self.channels)):
            if value is not None and value < 1:
                raise SeelikeError(f"{name} of the receptive field study must be at least 1, not {value}")
        if self.projection not in ("channels", "gaussian"):
            raise SeelikeError(f"projection is channels or gaussian, not {self.projection!r}")
        if self.projection == "gaussian" and self.channels is None:
            raise SeelikeError("a gaussian projection needs a number of channels: how many combinations to draw")

    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> FieldFold:
        notes: list[str] = []
        targets = {
            label: choose_targets(anatomy, self.layers, self.before, self.location, notes)
            for label, anatomy in anatomies.items()
        }
        theory = {label: theoretical_fields(anatomy) for label, anatomy in anatomies.items()}
        return FieldFold(self.images, self.channels, self.projection, anatomies, targets, theory, design, notes)

    def figures(self, results: xr.DataTree) -> dict[str, Figure]:
        from seelike.studies.field.figure import draw

        return draw(results)
