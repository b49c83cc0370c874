"""From summed Gram products to CKA with standard errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.measures import cka_from_products, jackknife_error, leave_one_out, t_quantile


@dataclass(frozen=True)
class PairEstimate:
    """CKA of one pair of models, everything (repeats, ...) kept so that any statistic of a map gets its error.

    Attributes:
        maps: (repeats, layers, other layers) CKA of each repeat.
        left_out: (repeats, groups, layers, other layers) CKA without each group of minibatches.
        weights: (repeats, groups) how much data each group holds.
    """

    maps: Tensor
    left_out: Tensor
    weights: Tensor

    @property
    def groups(self) -> int:
        """Groups of minibatches that hold data, the fewest of any repeat."""
        return int((self.weights > 0).sum(1).min())

    @property
    def quantile(self) -> float:
        """Standard errors on each side of a 95 % interval."""
        return t_quantile(self.groups)

    def statistic(self, of: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Value, standard error and spread over repeats of a statistic of the map.

        Args:
            of: (..., layers, other layers) -> (..., *shape).

        Returns:
            Mean over repeats, its standard error, and the standard deviation over repeats (NaN for one repeat),
            each (*shape).

        The error of a single repeat, V, comes from the jackknife. Repeats that re-cut the same images share
        the images' luck, and repeats that draw fresh images do not; both are covered by
        Var(mean) = V - s^2 (1 - 1/R), with s^2 the variance between the R repeats: re-cutting makes s^2 small
        and the error stays, fresh images make s^2 near V and the error falls as 1/R.
        """
        values, left = of(self.maps), of(self.left_out)  # (repeats, *shape), (repeats, groups, *shape)
        repeats = values.shape[0]
        single = torch.stack([jackknife_error(l, v, w) for l, v, w in zip(left, values, self.weights, strict=True)])
        variance = single.square().mean(0)
        if repeats == 1:
            return values[0], variance.sqrt(), torch.full_like(values[0], torch.nan)
        between = values.var(0)
        variance = torch.maximum(variance - between * (1 - 1 / repeats), between / repeats)
        return values.mean(0), variance.sqrt(), between.sqrt()


def estimate_pair(cross: Tensor, own: Tensor, other_own: Tensor, weights: Tensor) -> PairEstimate:
    """CKA maps of a pair of models and their leave-one-group-out versions.

    Args:
        cross: (repeats, groups, layers, other layers) summed products; own: (repeats, groups, layers) and
            other_own: (repeats, groups, other layers), each layer's product with itself.
        weights: (repeats, groups) summed n (n - 3).
    """
    maps = cka_from_products(cross.sum(1), own.sum(1), other_own.sum(1))
    left_out = torch.stack(
        [
            cka_from_products(leave_one_out(c), leave_one_out(k), leave_one_out(l))
            for c, k, l in zip(cross, own, other_own, strict=True)
        ]
    )
    return PairEstimate(maps, left_out, weights)
