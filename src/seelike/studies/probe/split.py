"""Which images fit the probes, which choose lambda, and which are evaluated: known before the first one is shown.

The pass shows images in a random order, so its beginning is a random sample. All images that fit come before all
that choose lambda, and those before all that are evaluated: one forward pass does for everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seelike.errors import SeelikeError
from seelike.studies.base import Samples

GROUPS = 20
"""Evaluated images are dealt to so many groups, for the jackknife."""
HELD_OUT_SHARE = 1 / 8
"""Of the images for fitting, in a probe with all data: those that choose lambda."""
MOST_HELD_OUT = 1 / 4
"""Of the images after the fit, in a probe with few shots."""
FEWEST_EVALUATED = 2


@dataclass(frozen=True)
class Part:
    """What the images of one repeat are for; arrays over all images of the source.

    Attributes:
        draw, slot: which row of which fit an image is, -1 for none.
        held_out: whether it chooses lambda; group: of the evaluation, -1 for none.
        slot_labels: (draws, slots) class of every row of every fit.
    """

    draw: np.ndarray
    slot: np.ndarray
    held_out: np.ndarray
    group: np.ndarray
    slot_labels: np.ndarray

    @property
    def counts(self) -> tuple[int, int, int]:
        """Images that fit (of each draw), that choose lambda, and that are evaluated."""
        return int(self.slot_labels.shape[1]), int(self.held_out.sum()), int((self.group >= 0).sum())


@dataclass(frozen=True)
class Split:
    """The plan of all repeats.

    Attributes:
        classes: names of the classes that occur; labels: (images,) their number, from 0, per image of the source.
        parts: per repeat.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    parts: tuple[Part, ...]

    @property
    def draws(self) -> int:
        return int(self.parts[0].slot_labels.shape[0])

    @property
    def slots(self) -> int:
        return int(self.parts[0].slot_labels.shape[1])


def make_split(samples: Samples, shots: int | None, draws: int, fit_share: float) -> Split:
    """Plan the fits.

    With `shots`, fit r takes the r-th `shots` images of every class in the order shown; the next ``shots x classes``
    (at most a quarter of what is left) choose lambda, all after them are evaluated. Images in between that no fit
    has a use for, as their class is full, are left out. Without `shots` there is one fit: the first `fit_share` of the
    images, of which the last eighth chooses lambda.

    Raises:
        SeelikeError: no labels, one class only, a class with too few images, an id that two images share, no images
            left to evaluate.
    """
    numbers = np.asarray(samples.need_labels("probe"))
    _check_ids(samples)
    known, labels = np.unique(numbers, return_inverse=True)
    names = samples.class_names
    classes = tuple(str(names[k]) if names is not None and 0 <= k < len(names) else str(k) for k in known)
    if len(classes) < 2:
        raise SeelikeError(
            f"the study probe needs at least two classes, and all images of {samples.name} are of the class "
            f"{classes[0] if classes else 'none'!r}; give images of several classes"
        )
    orders = [np.asarray(order) for order in samples.order]
    if shots is None:
        parts = [_all_data(order, labels, fit_share) for order in orders]
    else:
        parts = [_few_shots(order, labels, classes, shots, draws) for order in orders]
    return Split(classes, labels, tuple(parts))


def _check_ids(samples: Samples) -> None:
    """No image may be fitted and evaluated under one id: raise `SeelikeError` when two images share theirs."""
    shown = sorted({index for order in samples.order for index in order})
    counts = Counter(samples.ids[index] for index in shown)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise SeelikeError(
            f"the study probe must not evaluate what it was fitted on, and {len(twice)} ids of {samples.name} stand "
            f"for more than one image (the first: {twice[0]!r}); give every image its own id"
        )


def _few_shots(order: np.ndarray, labels: np.ndarray, classes: Sequence[str], shots: int, draws: int) -> Part:
    need = shots * draws
    shown = labels[order]
    counts = np.bincount(shown, minlength=len(classes))
    if counts.min() < need:
        worst = int(counts.argmin())
        short = int((counts < need).sum())
        more = f" ({short} of {len(classes)} classes have too few)" if short > 1 else ""
        raise SeelikeError(
            f"the study probe needs {need} images of every class ({draws} draws of {shots} shots), and the class "
            f"{classes[worst]!r} has {counts[worst]} among the {len(order)} images shown{more}; show more images, or "
            "set probe.shots or probe.draws lower"
        )
    place = np.empty(len(order), dtype=np.int64)  # how many of its class came before
    for number in range(len(classes)):
        of_class = np.flatnonzero(shown == number)
        place[of_class] = np.arange(len(of_class))
    fits = place < need
    end = int(np.flatnonzero(fits)[-1]) + 1
    held = min(shots * len(classes), int(MOST_HELD_OUT * (len(order) - end)))
    part = _part(len(labels), np.repeat(np.arange(len(classes)), shots)[None].repeat(draws, 0))
    chosen = order[fits]
    part.draw[chosen] = place[fits] // shots
    part.slot[chosen] = shown[fits] * shots + place[fits] % shots
    return _rest(part, order, end, held)


def _all_data(order: np.ndarray, labels: np.ndarray, fit_share: float) -> Part:
    share = int(fit_share * len(order))
    held = int(HELD_OUT_SHARE * share)
    fits = order[: share - held]
    part = _part(len(labels), labels[fits][None])
    part.draw[fits] = 0
    part.slot[fits] = np.arange(len(fits))
    return _rest(part, order, share - held, held)


def _part(images: int, slot_labels: np.ndarray) -> Part:
    """A part in which no image has a purpose yet."""
    none = [np.full(images, -1, dtype=np.int32) for _ in range(3)]
    return Part(none[0], none[1], np.zeros(images, dtype=bool), none[2], slot_labels)


def _rest(part: Part, order: np.ndarray, end: int, held: int) -> Part:
    """Say what the images from place `end` on are for."""
    evaluated = order[end + held :]
    if end < 2 or held < 1 or len(evaluated) < FEWEST_EVALUATED:
        raise SeelikeError(
            f"of the {len(order)} images shown, the study probe fits on the first {end} and has {max(held, 0)} left to "
            f"choose lambda and {len(evaluated)} to evaluate; show more images, or set probe.shots or probe.draws lower"
        )
    part.held_out[order[end : end + held]] = True
    part.group[evaluated] = np.arange(len(evaluated)) % GROUPS
    return part
