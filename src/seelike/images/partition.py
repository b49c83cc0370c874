"""Which images form which minibatch: a plan made of numbers only, before anything is read."""

from __future__ import annotations

import numpy as np

from seelike.errors import SeelikeError

# The unbiased HSIC divides by n(n - 3): it needs at least four images.
SMALLEST = 4


def partition(
    count: int, minibatch: int, *, limit: int | None = None, seed: int = 0, repeat: int = 0, fewest: int = SMALLEST
) -> list[tuple[int, ...]]:
    """Draw a fresh random sample of images without replacement and cut it into minibatches.

    This is one of the repeats that the paper averages (paper.md, 2.1). The order comes from the raw 64-bit
    output of PCG64 seeded with (seed, repeat) and nothing else; NumPy promises that stream, unlike its
    `permutation`, to be the same in all versions, so a run can be resumed years later. The sample for a
    smaller `limit` is the beginning of that for a larger one.

    A rest of fewer than max(`fewest`, minibatch / 2) images joins the last minibatch, a longer one is a minibatch
    of its own; nothing is padded or dropped.

    Args:
        count: how many images there are.
        minibatch: images per minibatch, at least 4.
        limit: how many images to draw; None or more than `count` means all.
        seed: not negative.
        repeat: which of the fresh samples, not negative.
        fewest: images that a minibatch must have; less than 4 only where nothing unbiased is estimated.

    Returns:
        Minibatches as tuples of indices below `count`, each index at most once.

    Raises:
        SeelikeError: when minibatch, limit or count is below `fewest`, or seed or repeat below 0.
    """
    drawn = count if limit is None else min(count, limit)
    who = "the unbiased HSIC needs" if fewest == SMALLEST else "the studies need"
    if minibatch < fewest:
        raise SeelikeError(f"a minibatch of {minibatch} is too small: {who} at least {fewest} images")
    if drawn < fewest:
        raise SeelikeError(
            f"{drawn} images are too few: {who} at least {fewest} (there are {count}, the limit is {limit})"
        )
    if seed < 0 or repeat < 0:
        raise SeelikeError(f"seed and repeat must not be negative, but are {seed} and {repeat}")
    raw = np.random.PCG64(np.random.SeedSequence([seed, repeat])).random_raw(count)
    order = np.argsort(raw, kind="stable")[:drawn].tolist()
    starts = list(range(0, drawn, minibatch))
    rest = drawn - starts[-1]
    if len(starts) > 1 and rest < max(fewest, minibatch / 2):
        starts.pop()
    ends = [*starts[1:], drawn]
    return [tuple(order[start:end]) for start, end in zip(starts, ends, strict=True)]
