"""Which images a read-out is fitted to, tuned and evaluated on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seelike.errors import SeelikeError

FIT, TUNE, EVALUATE = 0, 1, 2
TUNE_EVERY = 5
"""Every fifth image of the first part is held out to choose lambda, and fitted to afterwards."""
FEWEST = 20


@dataclass(frozen=True)
class Split:
    """The part (FIT, TUNE, EVALUATE) of every image by its place in the source; images that are not in it are not used.

    Attributes:
        images: for the place of the object; tokens: for the places of tokens, of fewer images.
    """

    images: Mapping[int, int]
    tokens: Mapping[int, int]


def split_images(order: Sequence[Sequence[int]], fit: float, token_images: int) -> Split:
    """Split the images of the first repeat in the order in which they are shown: first those to fit to.

    Those whose tokens are taken are spread evenly over both parts.

    Raises:
        SeelikeError: too few images.
    """
    shown = tuple(order[0]) if order else ()
    fitted = round(fit * len(shown))
    if len(shown) < FEWEST or not TUNE_EVERY <= fitted < len(shown):
        raise SeelikeError(
            f"the position study needs at least {FEWEST} images, {TUNE_EVERY} of them to fit to and one to evaluate "
            f"on; it has {len(shown)}, {fitted} of them to fit to"
        )
    images = _parts(shown[:fitted], shown[fitted:])
    wanted = min(token_images, len(shown))
    few = {
        index for place, index in enumerate(shown) if (place + 1) * wanted // len(shown) > place * wanted // len(shown)
    }
    tokens = _parts([i for i in shown[:fitted] if i in few], [i for i in shown[fitted:] if i in few])
    return Split(images, tokens)


def _parts(fitted: Sequence[int], rest: Sequence[int]) -> dict[int, int]:
    parts = {index: TUNE if place % TUNE_EVERY == TUNE_EVERY - 1 else FIT for place, index in enumerate(fitted)}
    return parts | dict.fromkeys(rest, EVALUATE)
