"""What the similarities show: attention collapse, as DeepViT reports it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seelike.studies.attention_similarity.results import SimilarityMeans, adjacent, between_heads
from seelike.studies.base import Finding, judge

COLLAPSE = "DeepViT (Zhou et al. 2021): in a ViT of 32 blocks, attention maps hardly differ after block 17"
HEADS = "DeepViT (Zhou et al. 2021): maps of different heads of a block stay unlike"


def find(model: str, found: Sequence[SimilarityMeans], threshold: float) -> list[Finding]:
    """Findings of one model, on its largest group of comparable blocks."""
    means = max(found, key=lambda each: len(each.sites))
    blocks = len(means.sites)
    if blocks < 2:
        return []
    findings = [_share(model, means, threshold)]
    if blocks >= 4:
        findings.append(_collapse(model, means))
    if means.sites[0].heads >= 2:
        findings.append(_heads(model, means))
    return findings


def _share(model: str, means: SimilarityMeans, threshold: float) -> Finding:
    value, error = means.blocks.statistic(lambda maps: (adjacent(maps) > threshold).double().mean(-1))
    statement = (
        f"In {model}, {_pm(value, error)} of the blocks attend like the block before (similarity above {threshold:g})."
    )
    return Finding("attention-similarity", (model,), statement, "similar_share", value, error, paper=COLLAPSE)


def _collapse(model: str, means: SimilarityMeans) -> Finding:
    third = max(1, (len(means.sites) - 1) // 3)
    first, first_error = means.blocks.statistic(lambda maps: adjacent(maps)[..., :third].mean(-1))
    last, last_error = means.blocks.statistic(lambda maps: adjacent(maps)[..., -third:].mean(-1))
    value, error = means.blocks.statistic(
        lambda maps: adjacent(maps)[..., -third:].mean(-1) - adjacent(maps)[..., :third].mean(-1)
    )
    return Finding(
        "attention-similarity",
        (model,),
        f"In {model}, neighbouring blocks attend alike by {_pm(first, first_error)} in the first third and by "
        f"{_pm(last, last_error)} in the last (mean cosine).",
        "adjacent, last third minus first",
        value,
        error,
        claim=f"attention of neighbouring blocks of {model} grows more alike with depth",
        verdict=judge(value, error, means.blocks.quantile),
        paper=COLLAPSE,
    )


def _heads(model: str, means: SimilarityMeans) -> Finding:
    near, near_error = means.blocks.statistic(lambda maps: adjacent(maps).mean(-1))
    heads, heads_error = means.heads.statistic(lambda maps: between_heads(maps).mean(-1))
    value, error = near - heads, math.hypot(near_error, heads_error)
    return Finding(
        "attention-similarity",
        (model,),
        f"In {model}, different heads of a block attend alike by {_pm(heads, heads_error)}, equal heads of "
        f"neighbouring blocks by {_pm(near, near_error)} (mean cosine).",
        "adjacent minus head_similarity_mean",
        value,
        error,
        claim=f"heads of a block of {model} are less alike than neighbouring blocks are",
        verdict=judge(value, error, means.blocks.quantile),
        paper=HEADS,
    )


def _pm(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}" if math.isfinite(error) else f"{value:.3f} (no error: too few minibatches)"
