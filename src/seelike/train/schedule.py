"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from seelike.train.recipe import OptimisationPart


def rate(step: int, how: OptimisationPart) -> float:
    """Return the learning rate of a step (from 0): a linear rise to `how.rate`, then half a cosine down to zero.

    The rise takes at most a third of all steps, so that a shortened run still has its peak.
    """
    warmup = min(how.warmup, how.steps // 3)
    if step < warmup:
        return how.rate * (step + 1) / (warmup + 1)
    return how.rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (how.steps - warmup)))
