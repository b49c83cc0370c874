"""`generated:N`: images drawn on the spot, for demonstrations without any data."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import numpy as np
import PIL.Image
import PIL.ImageDraw

from seelike.errors import SeelikeError, close_matches
from seelike.images.source import Images

_SMALLEST = 8
_OPTIONS = {"size": 224, "seed": 0}


class GeneratedImages(Images):
    """Smooth coloured gradients with a few shapes on them; image i depends on (seed, i) alone.

    A stopgap for `make demo`: it will give way to the scene generator (`scenes:`), whose images have
    objects, labels and known geometry.

    Args:
        count: how many images.
        size: side in pixels.
        seed: another seed gives other images.
    """

    def __init__(self, count: int, size: int = 224, seed: int = 0) -> None:
        if count < 1 or size < _SMALLEST or seed < 0:
            raise SeelikeError(
                f"cannot generate {count} images of {size} px with seed {seed}: there must be at least one, "
                f"of at least {_SMALLEST} px, and the seed not negative"
            )
        self.name = f"generated:{count}?size={size},seed={seed}"
        self.ids = [f"generated:seed{seed}:{size}px:{index}" for index in range(count)]
        self.size = size
        self.seed = seed

    def read(self, index: int) -> PIL.Image.Image:
        """Draw image `index`."""
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, index])))
        image = _gradient(random, 2 * self.size)  # drawn at twice the size, so that edges come out smooth
        for _ in range(3 + int(4 * random.random())):
            _shape(PIL.ImageDraw.Draw(image), random, 2 * self.size)
        return image.resize((self.size, self.size), PIL.Image.Resampling.BOX)


def load_generated(rest: str) -> Images:
    """Read `N[?size=PIXELS,seed=NUMBER]`.

    Raises:
        SeelikeError: when it is written otherwise.
    """
    found = re.fullmatch(r"(\d+)(?:\?(.*))?", rest)
    if not found:
        raise SeelikeError(f"'generated:{rest}' is not generated:N[?size=224,seed=0], N being how many images")
    options = dict(_OPTIONS)
    for key, value in parse_qsl((found[2] or "").replace(",", "&"), keep_blank_values=True):
        if key not in options or not value.isdecimal():
            raise SeelikeError(
                f"'{key}={value}' in 'generated:{rest}' is not understood{close_matches(key, options)}; it "
                f"takes size=PIXELS and seed=NUMBER"
            )
        options[key] = int(value)
    return GeneratedImages(int(found[1]), **options)


def _gradient(random: np.random.Generator, size: int) -> PIL.Image.Image:
    """Blend four corner colours bilinearly."""
    corners = (255 * random.random((2, 2, 3))).astype(np.uint8)
    return PIL.Image.fromarray(corners).resize((size, size), PIL.Image.Resampling.BILINEAR)


def _shape(draw: PIL.ImageDraw.ImageDraw, random: np.random.Generator, size: int) -> None:
    kind, radius = int(3 * random.random()), size * (0.06 + 0.2 * random.random())
    x, y = size * random.random(2)
    colour = tuple(int(value) for value in 256 * random.random(3))
    if kind == 0:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    elif kind == 1:
        flat = radius * (0.4 + 0.6 * random.random())
        draw.rectangle((x - radius, y - flat, x + radius, y + flat), fill=colour)
    else:
        corners = 3 + int(4 * random.random())
        draw.regular_polygon((x, y, radius), corners, rotation=360 * random.random(), fill=colour)
