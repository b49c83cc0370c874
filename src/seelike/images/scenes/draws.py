"""Random numbers that depend on (seed, split, image) alone: nothing is carried from one image to the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Words of an image's stream that describe the scene; those behind it are pixel noise. Draws beyond it are an
# error, so that a longer description cannot run into the noise unseen.
DESCRIPTION = 128

_IMAGES, _LABELS = 0, 1


class Draws:
    """Columns of uniform numbers for n images, handed out in order.

    Args:
        words: raw 64-bit words of shape (n, DESCRIPTION), a row per image.
    """

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self._words = words
        self._next = 0

    def words(self, columns: int) -> NDArray[np.uint64]:
        """The next raw words, of shape (n, columns)."""
        first, self._next = self._next, self._next + columns
        if self._next > self._words.shape[1]:
            raise IndexError(f"a scene is described by at most {self._words.shape[1]} words")
        return self._words[:, first : self._next]

    def uniform(self, low: float = 0.0, high: float = 1.0, columns: int = 0) -> NDArray[np.float64]:
        """Uniform numbers in [low, high): of shape (n, columns), or (n,) when no columns are asked for."""
        unit = (self.words(columns or 1) >> np.uint64(11)) * 2.0**-53
        numbers = np.asarray(low + (high - low) * unit, np.float64)
        return numbers if columns else numbers[:, 0]

    def integer(self, below: int, columns: int = 0) -> NDArray[np.int64]:
        """Integers in [0, below), in the shapes of `uniform`."""
        return self.uniform(0, below, columns).astype(np.int64)


def image_words(seed: int, split: int, indices: NDArray[np.int64], count: int) -> NDArray[np.uint64]:
    """Raw words of shape (n, count), a row per image; a longer row begins with the shorter one.

    They are the output of Philox with (seed, split) for a key and the image's index in the upper half of the
    counter: random access by construction, and NumPy promises the stream to be the same in all versions.
    """
    key = _key(seed, split, _IMAGES)
    rows = np.empty((len(indices), count), np.uint64)
    for row, index in zip(rows, indices, strict=True):
        row[:] = np.random.Philox(key=key, counter=np.array([0, 0, index, 0], np.uint64)).random_raw(count)
    return rows


def balanced_labels(seed: int, split: int, count: int, classes: int) -> NDArray[np.int64]:
    """Classes of the first `count` images, shuffled and balanced: images 0 to 9 hold each of ten classes once.

    So do 10 to 19, and so on. The class of an image does not depend on how many there are.
    """
    blocks = -(-count // classes)
    raw = np.random.Philox(key=_key(seed, split, _LABELS)).random_raw(blocks * classes)
    return np.argsort(raw.reshape(blocks, classes), axis=1, kind="stable").reshape(-1)[:count]


def _key(seed: int, split: int, purpose: int) -> NDArray[np.uint64]:
    return np.array([seed, 256 * split + purpose], np.uint64)
