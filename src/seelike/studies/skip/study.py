"""The skip study: what passes through a network unchanged, and what its branches write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import xarray as xr
from matplotlib.figure import Figure

from seelike.anatomy import Anatomy
from seelike.errors import SeelikeError
from seelike.studies.base import Design, Study
from seelike.studies.skip.fold import SkipFold
from seelike.studies.skip.places import find_places


@dataclass(frozen=True)
class SkipRatio(Study):
    """Norm of the skip over norm of the branch at every residual sum, and their cosines (Figure 7, E.1, E.2).

    For ``z + f(z)``: ``||z|| / ||f(z)||``, ``cos(z, z + f(z))`` and ``cos(z, f(z))`` over channels, at every token of
    every image; z is what the skip carries to the sum (projected, in some units of a ResNet).

    The results lie at ``/skip/<model>``.
    """

    name: ClassVar[str] = "skip"
    question: ClassVar[str] = "How much of a representation arrives by the skip, and how much does the branch add?"

    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> SkipFold:
        notes: list[str] = []
        places = {model: find_places(anatomy, notes) for model, anatomy in anatomies.items()}
        without = [model for model, found in places.items() if not found]
        if len(without) == len(places):
            raise SeelikeError(
                f"the skip study found no residual sum (skip + branch) to measure in {', '.join(without)}"
                f"{''.join('; ' + note for note in notes)}; give a model with skip connections, for example "
                "timm:resnet18 or zoo:resnet, or leave the study out"
            )
        notes += [f"{model}: no residual sums, so it is not in the skip study" for model in without]
        return SkipFold(places, design, notes)

    def figures(self, results: xr.DataTree) -> dict[str, Figure]:
        from seelike.studies.skip.figure import draw

        return draw(results)
