"""What the embeddings show: Figure 7 of the ViT paper (paper.md 5.6)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from seelike.measures.embeddings import Exchanged, components_needed
from seelike.studies.base import Finding, judge
from seelike.studies.embeddings.look import LEVEL, FilterLook, Look, PositionLook

QUANTILE = 1.96
FILTERS = (
    "ViT paper, Figure 7 left: the top components look like a basis for a low-dimensional representation of the fine "
    "structure of a patch (ViT-L/32; no numbers given)"
)
NEAR = "ViT paper, Figure 7 centre: closer patches have more similar position embeddings (ViT-L/32; no numbers given)"
LINES = "ViT paper, Figure 7 centre: patches in the same row or column have similar embeddings (no numbers given)"


def find(looks: Mapping[str, Look]) -> list[Finding]:
    """Findings of every model."""
    found: list[Finding] = []
    for model, look in looks.items():
        if look.filters is not None:
            found.append(_dimensions(model, look.filters))
        if look.positions is not None:
            found += [_nearness(model, look.positions), _neighbours(model, look.positions)]
            found += [*_lines(model, look.positions), *_centre(model, look.positions)]
    return found


def _dimensions(model: str, look: FilterLook) -> Finding:
    needed = components_needed(look.shares, LEVEL)
    mean, spread = look.noise
    count, channels, height, width = look.patch.filters.shape
    kind = "patch embedding" if look.patch.cuts else "first convolution"
    return Finding(
        "embeddings",
        (model,),
        f"{needed} of {len(look.shares)} principal components hold 90 % of the variance of the {count} filters "
        f"({height} x {width} pixels, {channels} channels) of {model}'s {kind}; filters of noise need "
        f"{mean:.1f} ± {spread:.1f}.",
        "components for 90 % of the variance, noise minus model",
        mean - needed,
        spread,
        claim=f"the filters of {model} span fewer dimensions than noise does",
        verdict=judge(mean - needed, spread, QUANTILE),
        paper=FILTERS,
    )


def _nearness(model: str, look: PositionLook) -> Finding:
    each = look.structure.distance_correlation
    rows, columns = look.similarity.shape[:2]
    return Finding(
        "embeddings",
        (model,),
        f"The cosine of two position embeddings of {model} ({rows} x {columns} patches) and the distance of the "
        f"patches are correlated by {_pm(each)} (Spearman).",
        "rank correlation of cosine and distance",
        each.value,
        each.error,
        claim=f"position embeddings of {model} are more alike the nearer the patches are",
        verdict=judge(-each.value, each.error, QUANTILE),
        paper=NEAR,
    )


def _neighbours(model: str, look: PositionLook) -> Finding:
    each, chance = look.structure.neighbour_share, look.structure.neighbour_chance
    return Finding(
        "embeddings",
        (model,),
        f"The most similar other position touches the patch for {_pm(each)} of the patches of {model}, by chance for "
        f"{chance:.3f}.",
        "share of patches whose most similar other is a neighbour, minus chance",
        each.value - chance,
        each.error,
        claim=f"neighbours have the most similar position embeddings in {model}, more often than by chance",
        verdict=judge(each.value - chance, each.error, QUANTILE),
        paper=NEAR,
    )


def _lines(model: str, look: PositionLook) -> list[Finding]:
    structure = look.structure
    found = []
    for word, each, own in (
        ("row", structure.row_excess, structure.same_row),
        ("column", structure.column_excess, structure.same_column),
    ):
        if not math.isfinite(each.value):
            continue  # too few patches for pairs as far from each other
        found.append(
            Finding(
                "embeddings",
                (model,),
                f"Position embeddings of patches in one {word} of {model} have a mean cosine of {own:.3f}, those in "
                f"neither one row nor one column {structure.other:.3f}; at equal distance the difference is "
                f"{_pm(each)}.",
                f"{word}_excess",
                each.value,
                each.error,
                claim=f"in {model} patches of one {word} are embedded more alike than others as far from each other",
                verdict=judge(each.value, each.error, QUANTILE),
                paper=LINES,
            )
        )
    return found


def _centre(model: str, look: PositionLook) -> list[Finding]:
    each = look.structure.centre_correlation
    if not math.isfinite(each.value):
        return []  # all patches are as far from the centre
    return [
        Finding(
            "embeddings",
            (model,),
            f"The cosine of two position embeddings of {model} and how much farther one patch is from the centre of "
            f"the image than the other are correlated by {_pm(each)} (Spearman).",
            "rank correlation of cosine and difference in distance from the centre",
            each.value,
            each.error,
        )
    ]


def _pm(each: Exchanged) -> str:
    return f"{each.value:.3f} ± {each.error:.3f}"
