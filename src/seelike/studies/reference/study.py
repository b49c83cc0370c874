"""The reference study: how far several trainings of one architecture agree with one of them, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import xarray as xr
from matplotlib.figure import Figure

from seelike.anatomy import Anatomy, LayerSite
from seelike.errors import SeelikeError
from seelike.studies.base import Design, Study
from seelike.studies.reference.fold import ReferenceFold
from seelike.studies.similarity.fold import SimilarityFold
from seelike.studies.similarity.pooling import Pool, check_pool, choose_poolable
from seelike.studies.words import words_of


@dataclass(frozen=True)
class ReferenceSimilarity(Study):
    """CKA between a layer of the first model and the same layer of every other (Figure 12, G.1; paper.md 3, 4).

    The models are trainings of one architecture: on less data than the first, from another seed (the control without
    which the others cannot be read), or fine-tuned from it.

    Args:
        layers: ``blocks``, ``sublayers``, ``all``, or globs over module names; the i-th of every model is compared.
        pool: ``flatten`` (the paper's), ``cls``, ``mean`` or ``spatial``.

    The results lie at ``/reference/<model>``.
    """

    name: ClassVar[str] = "reference"
    question: ClassVar[str] = "How like the first model's are the same layers of another training of it? (CKA)"

    layers: str | Sequence[str] = "blocks"
    pool: Pool = "flatten"

    def __post_init__(self) -> None:
        check_pool(self.pool)
        if not isinstance(self.layers, str):  # a frozen study must be hashable and print alike
            object.__setattr__(self, "layers", tuple(self.layers))

    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> ReferenceFold:
        words = words_of(self.layers, anatomies)
        notes: list[str] = []
        chosen = {
            model: choose_poolable(model, anatomy.select(words[model]), self.pool, "reference.pool", notes)
            for model, anatomy in anatomies.items()
        }
        reference = _check(chosen)
        pairs = [(model, model) for model in chosen] + [(reference, model) for model in chosen if model != reference]
        maps = SimilarityFold(chosen, self.pool, design, notes, prefix="reference", wanted=pairs)
        return ReferenceFold(maps, reference, notes)

    def figures(self, results: xr.DataTree) -> dict[str, Figure]:
        from seelike.studies.reference.figure import draw

        return draw(results)


def _check(chosen: Mapping[str, Sequence[LayerSite]]) -> str:
    """The first model's label, when the others have as many layers."""
    reference, *others = chosen
    if not others:
        raise SeelikeError(
            f"the study reference compares other trainings with {reference}; give them after it, as in: "
            "seelike compare zoo:vit-cls zoo:vit-cls-10 --studies reference"
        )
    for model in others:
        if len(chosen[model]) != len(chosen[reference]):
            raise SeelikeError(
                f"the study reference compares the same layers of one architecture, but {reference} has "
                f"{len(chosen[reference])} of them and {model} {len(chosen[model])}; give trainings of {reference}'s "
                "architecture, or compare different ones by the study similarity"
            )
    return reference
