"""`scenes:SPLIT`: generated images of shapes, with all that is in them known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from seelike.errors import SeelikeError, close_matches
from seelike.images.scenes.draws import DESCRIPTION, Draws, balanced_labels, image_words
from seelike.images.scenes.layout import Layout, describe
from seelike.images.scenes.render import render
from seelike.images.scenes.shapes import CLASSES
from seelike.images.scenes.textures import SETS
from seelike.images.scenes.truth import occlusion
from seelike.images.source import Images

# Split -> images unless said otherwise. A split's place is part of the key of its random numbers: append only.
SPLITS = {"train": 50_000, "validation": 2_000, "test": 2_000}
_SMALLEST = 8
_LARGEST = 4096
_MOST = 10_000_000  # ids and labels are held in memory
_OPTIONS = ("n", "size", "seed", "textures")


class Scenes(Images):
    """One textured shape on a textured ground per image; the class is the shape.

    Place, size, rotation, colours and textures are independent of the class; distractors, an occluder, blur,
    contrast and pixel noise are added. An image depends on (split, seed, index) alone, bit for bit, in
    whatever batch, order or process it is made; the same index at another `size` is the same scene with
    other pixel noise, and with other `textures` the same scene in other patterns.

    Args:
        split: "train", "validation" or "test"; no image is in two of them.
        n: how many images; those of a smaller n are the beginning of those of a larger one.
        size: side in pixels.
        seed: another seed gives other images.
        textures: "A" or "B", two sets of texture families without one in common.

    Raises:
        SeelikeError: for an unknown split or set, or numbers out of range.
    """

    def __init__(self, split: str, n: int | None = None, size: int = 32, seed: int = 0, textures: str = "A") -> None:
        if split not in SPLITS:
            raise SeelikeError(
                f"scenes have no split '{split}'{close_matches(split, SPLITS)}; there are: {', '.join(SPLITS)}"
            )
        if textures not in SETS:
            raise SeelikeError(f"scenes have no set of textures '{textures}'; there are: {', '.join(SETS)}")
        n = SPLITS[split] if n is None else n
        if not 1 <= n <= _MOST or not _SMALLEST <= size <= _LARGEST or not 0 <= seed < 2**64:
            raise SeelikeError(
                f"cannot generate {n} scenes of {size} px with seed {seed}: 1 to {_MOST:,} are possible, of "
                f"{_SMALLEST} to {_LARGEST} px, with a seed from 0 to 2**64 - 1"
            )
        self.split, self.size, self.seed, self.textures = split, size, seed, textures
        self._key = list(SPLITS).index(split)
        self._labels = balanced_labels(seed, self._key, n, len(CLASSES))
        mark = "" if textures == "A" else f"textures{textures}:"
        self.name = f"scenes:{split}?n={n},size={size},seed={seed}" + (mark and f",textures={textures}")
        self.ids = [f"scenes:{split}:seed{seed}:{size}px:{mark}{index}" for index in range(n)]
        self.labels = self._labels.tolist()
        self.class_names = CLASSES

    def read(self, index: int) -> PIL.Image.Image:
        """Draw image `index`."""
        return PIL.Image.fromarray(self.batch([index])[0])

    def batch(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Draw many images at once, in the order given: uint8 of shape (len(indices), size, size, 3).

        Raises:
            IndexError: for an index that is not in [0, len(self)).
        """
        places = self._places(indices)
        images = np.empty((len(places), self.size, self.size, 3), np.uint8)
        families = list(SETS[self.textures].values())
        values = 3 * self.size**2
        step = max(1, (1 << 18) // self.size**2)
        for start in range(0, len(places), step):
            some = places[start : start + step]
            words = image_words(self.seed, self._key, some, DESCRIPTION + -(-values // 8))
            layout = describe(self._labels[some], Draws(words[:, :DESCRIPTION]))
            # The order of bytes in a word is fixed, so that it does not matter which the machine prefers.
            octets = words[:, DESCRIPTION:].astype("<u8").view(np.uint8)[:, :values]
            noise = octets.reshape(-1, 3, self.size, self.size)
            images[start : start + step] = render(layout, families, self.size, noise)
        return images

    def truths(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> dict[str, NDArray[Any]]:
        """What is in the images, without drawing them: one array of shape (len(indices),) per property.

        * `label`, `class`: the shape, as a number and by name;
        * `texture`, `background`: texture families of the object and of the ground, by name;
        * `row`, `column`: the centroid of the object's shape (hidden parts included) in units of the image's
          side, rows downwards from the upper edge. In pixel indices it lies at `row * size - 0.5`;
        * `size`: diameter of the circle around the centroid that holds the object, in units of the side;
        * `rotation`: radians, clockwise, in [0, 2 pi) from the upright pose (docs/scenes.md says which);
        * `occlusion`: hidden share of the object's area;
        * `distractors`: how many there are, wholly or partly behind the object or not;
        * `red`, `green`, `blue`: the first of the object's two colours, in [0, 1], before contrast and noise;
        * `contrast`, `brightness`, `blur`, `noise`: as in `scenes.layout.Layout`.
        """
        layout = self._layout(self._places(indices))
        families = np.array(list(SETS[self.textures]))
        red, green, blue = layout.paint.colours[:, 0].T
        return {
            "label": layout.label,
            "class": np.array(CLASSES)[layout.label],
            "texture": families[layout.paint.family],
            "background": families[layout.background.family],
            "row": layout.row,
            "column": layout.column,
            "size": layout.size,
            "rotation": 2 * np.pi * layout.turn,
            "occlusion": occlusion(layout),
            "distractors": layout.distractors.present.sum(1).astype(np.int64),
            "red": red,
            "green": green,
            "blue": blue,
            "contrast": layout.contrast,
            "brightness": layout.brightness,
            "blur": layout.blur,
            "noise": layout.noise,
        }

    def truth(self, index: int) -> dict[str, Any]:
        """What is in image `index`: the properties of `truths` as plain Python values."""
        return {name: column[0].item() for name, column in self.truths([index]).items()}

    def _layout(self, places: NDArray[np.int64]) -> Layout:
        words = image_words(self.seed, self._key, places, DESCRIPTION)
        return describe(self._labels[places], Draws(words))

    def _places(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        places = np.asarray(indices, dtype=np.int64).reshape(-1)
        wrong = places[(places < 0) | (places >= len(self.ids))]
        if len(wrong):
            raise IndexError(f"'{self.name}' has images 0 to {len(self.ids) - 1}, not {wrong[0]}")
        return places


def load_scenes(rest: str) -> Scenes:
    """Read `SPLIT[?n=,size=,seed=,textures=]`; the options are separated by commas or &.

    Raises:
        SeelikeError: when it is written otherwise.
    """
    split, _, query = rest.partition("?")
    options: dict[str, Any] = {}
    for key, value in parse_qsl(query.replace(",", "&"), keep_blank_values=True):
        if key not in _OPTIONS:
            raise SeelikeError(
                f"'{key}' in 'scenes:{rest}' is not understood{close_matches(key, _OPTIONS)}; there are: "
                f"{', '.join(_OPTIONS)}"
            )
        if key != "textures" and not re.fullmatch(r"[0-9]{1,20}", value):
            raise SeelikeError(f"'{key}={value}' in 'scenes:{rest}' is not a whole number")
        options[key] = value if key == "textures" else int(value)
    return Scenes(split.strip(), **options)
