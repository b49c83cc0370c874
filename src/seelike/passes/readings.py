"""Gather the tensors of a reading while the model runs, and hand them on together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from seelike.studies import Fold, Minibatch, Reading

Part = tuple[Minibatch, int]
"""So many images of a minibatch."""
Receiver = Callable[[Tensor], None]


@dataclass(frozen=True)
class Readings:
    """What all folds want to read of one model: equal readings of several folds are gathered once."""

    label: str
    wanted: Sequence[tuple[Reading, Sequence[Fold]]]

    @classmethod
    def of(cls, label: str, folds: Sequence[Fold]) -> Readings:
        """Collect the readings of all folds."""
        wanted: dict[Reading, list[Fold]] = {}
        for fold in folds:
            for reading in fold.readings(label):
                wanted.setdefault(reading, []).append(fold)
        return cls(label, list(wanted.items()))

    @property
    def keep(self) -> bool:
        """Whether a tensor must outlive its receiver, so that nothing may overwrite it."""
        return any(len(reading.points) > 1 for reading, _ in self.wanted)

    def taps(self, parts: Sequence[Part]) -> dict[str, Receiver]:
        """Receivers for a run over the images of `parts`, one after the other."""
        taps: dict[str, Receiver] = {}
        for reading, folds in self.wanted:
            taps = join_taps(taps, _Gathering(self.label, reading, folds, parts).taps())
        return taps


class _Gathering:
    """One reading in one run."""

    def __init__(self, label: str, reading: Reading, folds: Sequence[Fold], parts: Sequence[Part]) -> None:
        self.label, self.reading, self.folds, self.parts = label, reading, folds, parts
        self.held: dict[str, Tensor] = {}

    def taps(self) -> dict[str, Receiver]:
        return {point: self._receiver(point) for point in self.reading.points}

    def _receiver(self, point: str) -> Receiver:
        def receive(tensor: Tensor) -> None:
            self.held[point] = tensor
            if len(self.held) == len(set(self.reading.points)):
                held, self.held = self.held, {}
                self._hand_on(tuple(held[each] for each in self.reading.points))

        return receive

    def _hand_on(self, tensors: tuple[Tensor, ...]) -> None:
        dim, total = self.reading.batch_dim, sum(images for _, images in self.parts)
        rows = [tensor.shape[dim] // total for tensor in tensors]  # of one image
        first = 0
        for minibatch, images in self.parts:
            some = tuple(t.narrow(dim, first * r, images * r) for t, r in zip(tensors, rows, strict=True))
            for fold in self.folds:
                fold.read(self.label, self.reading, some, minibatch, images)
            first += images


def join_taps(taps: Mapping[str, Receiver], more: Mapping[str, Receiver]) -> dict[str, Receiver]:
    """Both receivers for a point that both want."""
    return {**taps, **{point: _both(taps[point], tap) if point in taps else tap for point, tap in more.items()}}


def _both(one: Receiver, other: Receiver) -> Receiver:
    def receive(tensor: Tensor) -> None:
        one(tensor)
        other(tensor)

    return receive
