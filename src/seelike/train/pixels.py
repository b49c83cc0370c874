"""Images as bytes of one size, in memory where they fit, else decoded when they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from seelike.errors import SeelikeError
from seelike.images import Images
from seelike.models.zoo.transform import fit

LARGEST = 8 * 2**30
"""Bytes up to which the images of a split are kept in memory."""
CHUNK = 1000


class Pixels:
    """Chosen rows of `images`, as uint8 (height, width, 3), and their labels.

    Raises `SeelikeError` for labels that are not 0 ... classes - 1.
    """

    def __init__(self, images: Images, rows: NDArray[np.int64], size: int, device: torch.device | str = "cpu") -> None:
        labels = np.asarray(images.labels)
        self.labels = torch.from_numpy(labels[rows].astype(np.int64)).to(device)
        self.classes = len(images.class_names) if images.class_names else int(labels.max()) + 1
        if labels.min() < 0 or labels.max() >= self.classes:
            raise SeelikeError(f"{images.name} has labels outside 0 ... {self.classes - 1}")
        self._images, self._rows, self._size, self._device = images, rows, size, device
        self._kept: Tensor | None = None
        if len(rows) * size * size * 3 <= LARGEST:
            parts = [self._decode(range(i, min(i + CHUNK, len(rows)))) for i in range(0, len(rows), CHUNK)]
            self._kept = torch.cat(parts).to(device)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, which: Tensor) -> Tensor:
        """Return images `which` (n,) as uint8 (n, size, size, 3)."""
        if self._kept is not None:
            return self._kept[which.to(self._kept.device)]
        return self._decode(which.tolist()).to(self._device)

    def _decode(self, which: Sequence[int]) -> Tensor:
        rows = self._rows[np.asarray(which, dtype=np.int64)]
        batch: Any = getattr(self._images, "batch", None)  # sources that draw many images at once
        if batch is not None:
            drawn = np.asarray(batch(rows))
            if drawn.shape[1:] == (self._size, self._size, 3):
                return torch.from_numpy(drawn)
        with ThreadPoolExecutor() as threads:
            return torch.from_numpy(np.stack(list(threads.map(self._one, rows.tolist()))))

    def _one(self, row: int) -> NDArray[np.uint8]:
        image: PIL.Image.Image = self._images.read(row)
        return np.asarray(fit(image, (self._size, self._size)))
