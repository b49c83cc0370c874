"""The attention similarity study: which blocks, and which heads of a block, attend alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import xarray as xr
from matplotlib.figure import Figure

from seelike.anatomy import Anatomy
from seelike.anatomy.positions import PlacedAttention
from seelike.errors import SeelikeError
from seelike.studies.attention.study import placed_attentions
from seelike.studies.attention_similarity.fold import AttentionSimilarityFold
from seelike.studies.base import Design, Study

Group = tuple[PlacedAttention, ...]


@dataclass(frozen=True)
class AttentionSimilarity(Study):
    """Similarity of attention maps between blocks, and between the heads of a block (DeepViT; paper.md 5.2).

    Mean cosine between equal columns of two attention maps, over columns (tokens, prefix tokens too), heads and
    images. Only blocks of equal heads and tokens can be compared; windowed attention is left out, since windows of
    consecutive blocks hold different tokens.

    Args:
        threshold: a block counts as similar when its similarity to the block before exceeds this. DeepViT states
            none; 0.9 is ours.

    The results lie at ``/attention-similarity/<model>``.
    """

    name: ClassVar[str] = "attention-similarity"
    question: ClassVar[str] = "Which blocks, and which heads of a block, attend alike? (cosine of attention maps)"

    threshold: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise SeelikeError(f"the threshold of similar blocks lies between 0 and 1, not at {self.threshold}")

    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> AttentionSimilarityFold:
        placed, notes = placed_attentions(anatomies, self.name)
        groups = {model: _groups(sites) for model, sites in placed.items()}
        for model, sites in placed.items():
            windowed = [each.site.name for each in sites if each.windows > 1]
            if windowed:
                notes.append(
                    f"{model}: left out {', '.join(windowed)}: windows of consecutive blocks hold different tokens"
                )
        groups = {model: found for model, found in groups.items() if found}
        if not groups:
            raise SeelikeError(
                f"{', '.join(placed)}: all attention is windowed, and windows of consecutive blocks hold different "
                "tokens; give a model with attention over the whole image, for example timm:vit_small_patch16_224"
            )
        return AttentionSimilarityFold(anatomies, groups, self.threshold, design, notes)

    def figures(self, results: xr.DataTree) -> dict[str, Figure]:
        from seelike.studies.attention_similarity.figure import draw

        return draw(results)


def _groups(sites: tuple[PlacedAttention, ...]) -> tuple[Group, ...]:
    """Sites whose maps have one shape, which can be compared; in execution order."""
    found: dict[tuple[int, ...], list[PlacedAttention]] = defaultdict(list)
    for each in sites:
        if each.windows == 1:
            found[each.heads, each.site.query_tokens, each.site.key_tokens].append(each)
    return tuple(tuple(group) for group in found.values())
