"""What every source of images offers, wherever its images come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import PIL.Image

from seelike.errors import SeelikeError


class BadImage(SeelikeError):
    """One image that cannot be read; the message names the sample and the reason.

    Attributes:
        id: the sample's id in its source (empty when the source did not say).
        reason: why it cannot be read, without the id.
    """

    def __init__(self, message: str, sample: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.id = sample
        self.reason = reason or message

    @classmethod
    def of(cls, sample: str, reason: str) -> BadImage:
        """Word the usual message for `sample`."""
        return cls(f"image '{sample}' cannot be read: {reason}", sample, reason)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle by `args` alone, which would lose the id on the way out of a worker process.
        return BadImage, (str(self), self.id, self.reason)


class Images(ABC):
    """A finite collection of images with stable ids and random access.

    Attributes:
        name: the spec or a description, for labels and `run.json`.
        ids: one stable id per image: relative path, ``file.parquet:row``, tar key. They survive
            changes of order, limit and machine.
        labels: class number per image, or None where the source has none.
        class_names: name of each class number, or None.
        is_tensor: True when `read` gives tensors that are already preprocessed.
    """

    name: str
    ids: Sequence[str]
    labels: Sequence[int] | None = None
    class_names: Sequence[str] | None = None
    is_tensor: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def read(self, index: int) -> PIL.Image.Image | Any:
        """Decode image `index`. Raises `BadImage` when it cannot be decoded."""
