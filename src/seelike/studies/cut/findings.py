"""What the cut study shows: claim F8 of paper.md 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seelike.studies.base import Finding, judge
from seelike.studies.cut.estimate import CutEstimate
from seelike.studies.cut.parts import Cuts

SPLIT = "Figure 8: without the skips of block i, layers before and after it have little similarity (no numbers given)"
COST = "Section 4.2: about 4 % of accuracy for blocks in the middle (absolute or relative is not said)"


def find(estimates: Mapping[str, CutEstimate], blocks: Sequence[str], cuts: Cuts) -> list[Finding]:
    """For every cut: the similarity across it, where a model parts best, and what the cut costs."""
    found: list[Finding] = []
    for model, missing in cuts.missing.items():
        found += [_across(model, block, blocks.index(block), estimates[model], cuts) for block in missing]
        if missing and estimates[model].accuracy_change is not None:
            found.append(_cost(model, missing, estimates[model], cuts))
    return found


def _across(model: str, block: str, place: int, estimate: CutEstimate, cuts: Cuts) -> Finding:
    change, error = float(estimate.across_change.value[place]), float(estimate.across_change.error[place])
    across, within = float(estimate.across.value[place]), float(estimate.within.value[place])
    contrast = estimate.contrast_change
    return Finding(
        "cut",
        (model, cuts.whole),
        f"Across {block}, whose skips {model} lacks, its layers have a mean CKA of {across:.3f} (within the parts: "
        f"{within:.3f}), {change:+.3f} ± {error:.3f} against {cuts.whole} at the same place; within minus across "
        f"changes by {float(contrast.value[place]):+.3f} ± {float(contrast.error[place]):.3f}.",
        "CKA across the cut, change",
        change,
        error,
        claim=f"layers on the two sides of {block} are less alike in {model} than in {cuts.whole}",
        verdict=judge(-change, error, estimate.quantile),
        paper=SPLIT,
    )


def _cost(model: str, missing: Sequence[str], estimate: CutEstimate, cuts: Cuts) -> Finding:
    assert estimate.accuracy is not None
    assert estimate.accuracy_change is not None
    change, error = (100 * float(each) for each in (estimate.accuracy_change.value, estimate.accuracy_change.error))
    accuracy, counted = (100 * float(each) for each in (estimate.accuracy.value, estimate.accuracy.error))
    return Finding(
        "cut",
        (model, cuts.whole),
        f"{model}, without the skips of {', '.join(missing)}, is right on {accuracy:.1f} ± {counted:.1f} % of the "
        f"images, {change:+.1f} ± {error:.1f} points against {cuts.whole} on the same images (one training each).",
        "accuracy, change in points",
        change,
        error,
        claim=f"{model} is less accurate than {cuts.whole}",
        verdict=judge(-change, error, 1.96),
        paper=COST,
    )
