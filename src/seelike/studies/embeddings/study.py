"""The embeddings study: filters of the patch embedding, and which positions are embedded alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import xarray as xr
from matplotlib.figure import Figure

from seelike.anatomy import Anatomy
from seelike.errors import SeelikeError
from seelike.studies.base import Design, Finding, Study, Tally, WeightsFold
from seelike.studies.embeddings.findings import find
from seelike.studies.embeddings.look import Look, look_at
from seelike.studies.embeddings.results import embeddings_dataset


@dataclass(frozen=True)
class Embeddings(Study):
    """Principal components of the filters of the patch embedding, and similarity of position embeddings.

    Figure 7 (left and centre) of Dosovitskiy et al. 2021; paper.md 5.6. Of a model without patches the filters are
    those of its first convolution; without a position embedding that is added to its tokens (relative, rotary, by
    convolution, none) a note says so. Needs no images.

    Args:
        components: principal components to keep and to show.

    The results lie at ``/embeddings/<model>``.
    """

    name: ClassVar[str] = "embeddings"
    question: ClassVar[str] = "What do the patch filters look like, and which positions are embedded alike?"
    needs_images: ClassVar[bool] = False
    fewest_images: ClassVar[int] = 1

    components: int = 28

    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> EmbeddingsFold:
        if self.components < 1:
            raise SeelikeError(f"the embeddings study shows one component or more, not {self.components}")
        notes: list[str] = []
        looks: dict[str, Look] = {}
        for model, anatomy in anatomies.items():
            look, reasons = look_at(anatomy, self.components, design.seed)
            notes += [f"{model}: {reason}" for reason in reasons]
            if look is not None:
                looks[model] = look
        if not looks:
            raise SeelikeError(
                f"the embeddings study found nothing to show; {'; '.join(notes)}; give a model that starts with a "
                "convolution or with patches, for example timm:vit_small_patch16_224 or zoo:vit-cls"
            )
        return EmbeddingsFold(looks, notes)

    def figures(self, results: xr.DataTree) -> dict[str, Figure]:
        from seelike.studies.embeddings.figure import draw

        return draw(results)


@dataclass
class EmbeddingsFold(WeightsFold):
    """Nothing is folded: all there is to know is in the weights."""

    looks: Mapping[str, Look]
    notes: list[str] = field(default_factory=list)

    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        del tally
        return {f"embeddings/{model}": embeddings_dataset(model, look) for model, look in self.looks.items()}

    def findings(self, tally: Tally) -> list[Finding]:
        del tally
        return find(self.looks)
