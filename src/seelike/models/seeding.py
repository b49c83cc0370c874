"""Random weights that depend on a seed alone and leave everybody else's random numbers as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch (on the CPU, where models are built), numpy and Python; restore their states at the end."""
    python_state = random.getstate()
    # Other people's builders draw from numpy's global generator.
    numpy_state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it would also seed the GPUs' generators, whose state is not saved here.
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
