"""Cut images into minibatches, minibatches into forward batches: fixed before the first image is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from seelike.errors import SeelikeError
from seelike.images import partition
from seelike.images.partition import SMALLEST
from seelike.studies import Design

GROUPS = 20
"""Groups of minibatches for the jackknife; with repeats half of it, since repeats inform the error too."""


@dataclass(frozen=True)
class PassOptions:
    """How the images pass the models.

    Attributes:
        limit: images per repeat, drawn at random; None for all.
        minibatch: images per minibatch of the estimators, at least 4; independent of `batch`.
        repeats: fresh random samples (of `limit` images) to average over.
        seed: of the draws.
        batch: most images in one forward pass; None chooses from device and memory.
        workers: processes that decode images; None for none on a CPU, which the models keep busy, and up to 8 beside
            a GPU.
        on_bad_image: ``stop`` at an image that cannot be read, or ``skip`` it for all models.
        save_every: seconds between two savings of the state of a run.
    """

    limit: int | None = None
    minibatch: int = 64
    repeats: int = 1
    seed: int = 0
    batch: int | None = None
    workers: int | None = None
    on_bad_image: Literal["stop", "skip"] = "stop"
    save_every: float = 60.0

    def __post_init__(self) -> None:
        at_least = {"minibatch": 4, "repeats": 1, "batch": 1, "workers": 0, "limit": 1}
        for name, least in at_least.items():
            value = getattr(self, name)
            if value is not None and value < least:
                why = ": the unbiased estimator divides by n (n - 3)" if least == 4 else ""
                raise SeelikeError(f"--{name} must be at least {least}, not {value}{why}")
        if self.on_bad_image not in ("stop", "skip"):
            raise SeelikeError(f"--on-bad-image is stop or skip, not {self.on_bad_image!r}")


@dataclass(frozen=True)
class Portion:
    """One minibatch to come: which images, and its place in the design."""

    index: int
    repeat: int
    group: int
    images: tuple[int, ...]


@dataclass(frozen=True)
class PassPlan:
    """All minibatches of a pass in order; one that skipping leaves with fewer than `fewest` images is not used."""

    portions: tuple[Portion, ...]
    design: Design
    fewest: int = SMALLEST

    @property
    def images(self) -> int:
        """Image readings in all, repeats counted."""
        return sum(len(p.images) for p in self.portions)

    def forward_batches(self, batch: int, start: int = 0) -> list[tuple[Portion, ...]]:
        """Group minibatches, from number `start` on, into forward batches of at most `batch` images.

        A minibatch larger than `batch` is a forward batch of its own, to be run in pieces.
        """
        groups: list[tuple[Portion, ...]] = []
        current: list[Portion] = []
        for portion in self.portions[start:]:
            if current and sum(len(p.images) for p in current) + len(portion.images) > batch:
                groups.append(tuple(current))
                current = []
            current.append(portion)
        return [*groups, tuple(current)] if current else groups


def make_plan(count: int, options: PassOptions, fewest: int = SMALLEST) -> PassPlan:
    """Partition `count` images for every repeat and deal the minibatches to jackknife groups.

    `fewest` is what a minibatch must have for the studies at hand.
    """
    portions: list[Portion] = []
    most = 0
    for repeat in range(options.repeats):
        cut: Sequence[tuple[int, ...]] = partition(
            count, options.minibatch, limit=options.limit, seed=options.seed, repeat=repeat, fewest=fewest
        )
        groups = min(len(cut), GROUPS if options.repeats == 1 else GROUPS // 2)
        most = max(most, groups)
        start = len(portions)
        portions += [Portion(start + i, repeat, i % groups, images) for i, images in enumerate(cut)]
    largest = max(len(p.images) for p in portions)
    design = Design(options.repeats, most, largest, options.minibatch, options.seed)
    return PassPlan(tuple(portions), design, fewest)
