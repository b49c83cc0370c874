"""R^2 of read-outs with standard errors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.measures import leave_one_out
from seelike.studies.position.readouts import Readout
from seelike.studies.similarity.estimate import PairEstimate

AXES = ("row", "column", "both")


@dataclass(frozen=True)
class Explained:
    """How much of the places a read-out explains.

    Attributes:
        readout: what is read from what.
        r2: (axes,) in the order of `AXES`, with what is left without each group of minibatches.
        penalty: the lambda chosen; examples: to evaluate on, images or tokens.
    """

    readout: Readout
    r2: PairEstimate
    penalty: float
    examples: int


def explained(readout: Readout, evaluation: Tensor, penalty: float) -> Explained:
    """R^2 from the sums of the images to evaluate on.

    Args:
        evaluation: (groups, 7) examples, sums of both targets, of their squares, and of squared errors.
    """
    counts = evaluation[:, 0]
    estimate = PairEstimate(
        r_squared(evaluation.sum(0))[None], r_squared(leave_one_out(evaluation))[None], counts[None]
    )
    return Explained(readout, estimate, penalty, int(counts.sum()))


def r_squared(sums: Tensor) -> Tensor:
    """1 - squared error over squares about the mean, (..., 7) -> (..., axes); both: over the sums of the two."""
    count, y, yy, errors = sums[..., :1], sums[..., 1:3], sums[..., 3:5], sums[..., 5:7]
    squares = yy - y.square() / count
    total, missed = (torch.cat([each, each.sum(-1, keepdim=True)], -1) for each in (squares, errors))
    return 1 - missed / total
