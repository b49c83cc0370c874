"""The head similarity study: are heads that look near more like a convolutional network than heads that look far?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import xarray as xr
from matplotlib.figure import Figure

from seelike.anatomy import Anatomy, LayerSite
from seelike.anatomy.positions import PlacedAttention
from seelike.errors import SeelikeError
from seelike.studies.attention.study import placed_attentions
from seelike.studies.base import Design, Study
from seelike.studies.heads.fold import HeadFold
from seelike.studies.heads.options import HeadOptions
from seelike.studies.heads.outputs import head_site
from seelike.studies.heads.subsets import subset_width

UNITS = 5
"""The paper shows block1unit1 ... block2unit2 of a ResNet: its first five residual units."""


@dataclass(frozen=True)
class HeadSimilarity(HeadOptions, Study):
    """CKA of subsets of heads, from near to far, with layers of another model (Figure 5 of the paper; paper.md 3, 7).

    The heads of one block are sorted by mean attention distance. What a subset puts out, the concatenated A_h V_h of
    its heads over all tokens, is compared with the first residual units of every other model.

    Args:
        block: which attention, in execution order from 0; negative numbers count from the last.
        subset: ``sliding`` (heads that follow each other in distance, the default), ``disjoint`` (the same without
            overlap), ``nested`` (the nearest one, two, ... heads) or ``all`` (every choice of so many heads).
        width: heads in a subset (by how many a nested one grows); None for a quarter of the heads (one).
        of: ``heads``, the concatenation; ``projected``, what the subset adds to the output of the attention's
            output projection, the other heads being masked.
        layers: of the other models: ``blocks``, ``sublayers``, ``all``, or globs; None for the outputs of their first
            five blocks, the paper's choice.
        renormalize: as in `AttentionDistance`.

    The results lie at ``/heads/<model>/<other model>``.
    """

    name: ClassVar[str] = "heads"
    question: ClassVar[str] = "Are heads that look near more like another network than heads that look far?"

    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> HeadFold:
        placed, notes = placed_attentions(anatomies, self.name)
        if len(anatomies) < 2:
            raise SeelikeError(
                f"the heads study compares the heads of {next(iter(anatomies))} with layers of another model; give two "
                "models, for example zoo:vit-cls zoo:resnet"
            )
        # A model without attention is compared all the same.
        notes = [note for note in notes if " has no attention sites; " not in note]
        heads, widths = {}, {}
        for model, sites in placed.items():
            chosen = self._choose(model, anatomies[model], sites, notes)
            widths[model] = subset_width(chosen.heads, self.subset, self.width, f"{model}: {chosen.site.name}")
            heads[model] = head_site(model, anatomies[model], chosen, self.of)
        others = [model for model in anatomies if any(model != attentive for attentive in heads)]
        layers = {model: self._layers(anatomies[model]) for model in others}
        return HeadFold(self, anatomies, heads, widths, layers, design, notes)

    def _choose(
        self, model: str, anatomy: Anatomy, placed: Sequence[PlacedAttention], notes: Sequence[str]
    ) -> PlacedAttention:
        """The attention of the block asked for."""
        count = len(anatomy.attentions)
        if not -count <= self.block < count:
            raise SeelikeError(
                f"{model} has {count} attention blocks, 0 to {count - 1}: there is no block {self.block} (heads.block)"
            )
        site = anatomy.attentions[self.block]
        found = next((each for each in placed if each.site == site), None)
        if found is None:
            reason = next((note for note in notes if note.startswith(f"{model}: ") and site.name in note), "")
            able = ", ".join(str(anatomy.attentions.index(each.site)) for each in placed)
            raise SeelikeError(
                f"{model}: the attention of block {self.block}, {site.name}, cannot be placed in the image "
                f"({reason.partition(': left out ')[2]}); blocks that can: {able} (heads.block)"
            )
        return found

    def _layers(self, anatomy: Anatomy) -> tuple[LayerSite, ...]:
        return anatomy.select("blocks")[:UNITS] if self.layers is None else anatomy.select(self.layers)

    def figures(self, results: xr.DataTree) -> dict[str, Figure]:
        from seelike.studies.heads.figure import draw

        return draw(results)
