"""The separation study: at which layers images of one class come to lie together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from seelike.anatomy import Anatomy
from seelike.errors import SeelikeError
from seelike.measures.separation import Distance
from seelike.studies.base import Design, Samples, Study
from seelike.studies.separation.fold import SeparationFold
from seelike.studies.similarity.pooling import Pool, check_pool, choose_poolable
from seelike.studies.words import words_of


@dataclass(frozen=True)
class Separation(Study):
    """Soft nearest neighbour loss of each layer (Frosst, Papernot & Hinton 2019; paper.md 5.1).

    High where the nearest neighbours of an image are of any class, zero where they are of its own. It is measured at
    a fixed temperature and at the best one of each layer, on distances divided by their mean over a minibatch, so that
    layers can be compared. **It depends on the minibatch n**, whose images are the neighbours: compare runs of one
    ``minibatch`` only, or read it beside its ``baseline``, the loss of labels that have nothing to do with the layer,
    about log(classes). Images without another one of their class in their minibatch are left out and counted.

    Args:
        layers: ``blocks``, ``sublayers``, ``all``, or globs over layer names.
        pool: ``flatten``, ``cls``, ``mean`` or ``spatial``.
        temperature: the fixed one.
        distance: ``euclidean`` (squared) or ``cosine``.
        scaled: divide distances by their mean; without it, the fixed temperature is in units of the distance.

    The results lie at ``/separation/<model>``.
    """

    name: ClassVar[str] = "separation"
    question: ClassVar[str] = "At which layers do images of one class come to lie together? (soft nearest neighbours)"

    layers: str | Sequence[str] = "blocks"
    pool: Pool = "flatten"
    temperature: float = 0.1
    distance: Distance = "euclidean"
    scaled: bool = True

    def __post_init__(self) -> None:
        check_pool(self.pool)
        if not isinstance(self.layers, str):
            object.__setattr__(self, "layers", tuple(self.layers))
        if not self.temperature > 0:
            raise SeelikeError(f"separation.temperature must be positive, not {self.temperature}")
        if self.distance not in get_args(Distance):
            raise SeelikeError(f"separation.distance is euclidean or cosine, not {self.distance!r}")

    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> SeparationFold:
        labels = np.asarray(design.samples.need_labels("separation"))
        check_classes(design.samples, labels, design.minibatch)
        notes: list[str] = []
        words = words_of(self.layers, anatomies)
        chosen = {
            model: choose_poolable(model, anatomy.select(words[model]), self.pool, "separation.pool", notes)
            for model, anatomy in anatomies.items()
        }
        return SeparationFold(chosen, labels, self.pool, self.temperature, self.distance, self.scaled, design, notes)

    def figures(self, results: xr.DataTree) -> dict[str, Figure]:
        from seelike.studies.separation.figure import draw

        return draw(results)


def check_classes(samples: Samples, labels: np.ndarray, minibatch: int) -> None:
    """Raise `SeelikeError` when no image has a neighbour of its class, or none of another."""
    names = samples.class_names
    for order in samples.order:
        shown = labels[np.asarray(order)]
        if len(np.unique(shown)) < 2:
            name = str(names[shown[0]]) if names is not None else str(shown[0])
            raise SeelikeError(
                f"the study separation needs at least two classes, and all {len(order)} images shown are of the class "
                f"{name!r}; give images of several classes"
            )
        pieces = (shown[start : start + minibatch] for start in range(0, len(shown), minibatch))
        if all(len(np.unique(piece)) == len(piece) for piece in pieces):
            raise SeelikeError(
                f"the study separation compares images of one class with each other, and no minibatch of {minibatch} "
                f"holds two of one class ({len(np.unique(labels))} classes); use a larger --minibatch"
            )
