"""The similarity study: which layers of two models, or of one, hold the same picture of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import xarray as xr
from matplotlib.figure import Figure

from seelike.anatomy import Anatomy
from seelike.studies.base import Design, Study
from seelike.studies.similarity.fold import SimilarityFold
from seelike.studies.similarity.pooling import Pool, check_pool, choose_poolable
from seelike.studies.words import words_of


@dataclass(frozen=True)
class Similarity(Study):
    """CKA between all layers of all models, self pairs included (Figures 1 and 2 of the paper; paper.md 2.1, 3).

    Args:
        layers: ``sublayers`` (what the paper captures), ``blocks``, ``all``, or globs over module names.
        pool: ``flatten`` (the paper's), ``cls``, ``mean`` or ``spatial``.

    The results lie at ``/similarity/<model>/<other model>``.
    """

    name: ClassVar[str] = "similarity"
    question: ClassVar[str] = "Which layers of two models, or of one, represent the images alike? (CKA)"

    layers: str | Sequence[str] = "sublayers"
    pool: Pool = "flatten"

    def __post_init__(self) -> None:
        check_pool(self.pool)
        if not isinstance(self.layers, str):  # a frozen study must be hashable and print alike
            object.__setattr__(self, "layers", tuple(self.layers))

    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> SimilarityFold:
        notes: list[str] = []
        words = words_of(self.layers, anatomies)
        chosen = {
            model: choose_poolable(model, anatomy.select(words[model]), self.pool, "--pool", notes)
            for model, anatomy in anatomies.items()
        }
        return SimilarityFold(chosen, self.pool, design, notes)

    def figures(self, results: xr.DataTree) -> dict[str, Figure]:
        from seelike.studies.similarity.figure import draw

        return draw(results)
