"""Which residual sums make a line, or the panel of a map."""

from __future__ import annotations

import numpy as np
import xarray as xr

from seelike.studies.skip.findings import KINDS


def series_of(dataset: xr.Dataset) -> list[tuple[str, np.ndarray]]:
    """Residual sums of one kind, one per block (a Mixer has two MLPs in a block), in words and by row."""
    kinds, blocks = dataset["branch_kind"].values, dataset["block_index"].values
    series = []
    for kind, words in KINDS.items():
        rows = np.flatnonzero(kinds == kind)
        place = np.array([np.sum(blocks[rows[:i]] == blocks[row]) for i, row in enumerate(rows)])
        if (blocks[rows] < 0).any():
            place[:] = 0
        for number in np.unique(place):
            several = f" {number + 1} of the block" if place.any() else ""
            series.append((words + several, rows[place == number]))
    return series
