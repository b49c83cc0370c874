"""In which order images are shown, and from which random numbers: functions of (seed, step) alone.

Nothing has to be remembered for a resumed run to go on exactly, and no process has to tell another.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ORDER, CHANGES = 3, 4


class Order:
    """Every epoch a fresh permutation of `total` images; batches run on across the ends of epochs."""

    def __init__(self, total: int, batch: int, seed: int) -> None:
        self.total, self.batch, self.seed = total, batch, seed
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def rows(self, step: int) -> Tensor:
        """Rows of the images of a step (from 0), shape (batch,)."""
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        epochs = places // self.total
        self._epochs = {epoch: self._permutation(epoch) for epoch in np.unique(epochs).tolist()}
        rows = [self._epochs[e][p] for e, p in zip(epochs.tolist(), (places % self.total).tolist(), strict=True)]
        return torch.from_numpy(np.array(rows))

    def epoch(self, step: int) -> float:
        """How many times the images have been shown when `step` steps are done."""
        return step * self.batch / self.total

    def ends_epochs(self, step: int, number: int) -> bool:
        """Whether the step that led to `step` ended another `number` epochs; never when that is 0."""
        return bool(number) and int(self.epoch(step)) // number > int(self.epoch(step - 1)) // number

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        known = self._epochs.get(epoch)
        return np.random.default_rng([self.seed, ORDER, epoch]).permutation(self.total) if known is None else known


def generator(seed: int, step: int) -> torch.Generator:
    """Random numbers for the augmentation of one step, on the CPU so that they are the same on every device."""
    state = np.random.SeedSequence([seed, CHANGES, step]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
