"""From sums over images to means with errors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.measures import SkipMeasures, t_quantile
from seelike.studies.means import Mean, freshness, mean_from_sums, over_repeats


@dataclass(frozen=True)
class SkipEstimate:
    """Means over images for every column of a model (see `fold.sums_key`).

    Attributes:
        measures: name of a measure -> its mean, each (columns,).
        ratio_of_means: mean norm of the skip over mean norm of the branch.
        undefined: name of a measure -> (columns,) number of image readings where it does not exist.
    """

    measures: dict[str, Mean]
    ratio_of_means: Mean
    undefined: dict[str, Tensor]


def estimate(sums: Tensor, products: Tensor, images: Tensor) -> SkipEstimate:
    """Turn the tally of one model into means.

    Args:
        sums: (repeats, 3, 5, columns) of `fold.sums_key`; products: (repeats, columns); images: (repeats,).

    The mean of a ratio that is infinite for one image is not finite: NaN. Cosines are averaged over the images that
    have one.
    """
    total, square, count = sums.unbind(1)  # (repeats, 5, columns)
    missing = images[:, None] - count[:, 0]
    measures, undefined = {}, {}
    for number, name in enumerate(SkipMeasures._fields):
        counts = count[:, number]
        if name == "ratio":
            counts = counts.where(missing == 0, torch.nan)
        measures[name] = mean_from_sums(counts, total[:, number], square[:, number])
        undefined[name] = (images[:, None] - count[:, number]).sum(0)
    skip, branch = (SkipMeasures._fields.index(name) for name in ("skip_norm", "branch_norm"))
    return SkipEstimate(
        measures,
        _ratio_of_means(total[:, [skip, branch]], square[:, [skip, branch]], products, images[:, None]),
        undefined,
    )


def _ratio_of_means(total: Tensor, square: Tensor, products: Tensor, images: Tensor) -> Mean:
    """Mean norm of skips over that of branches, with the error of a ratio of two means of the same images.

    To first order the ratio R errs like the mean of ``(z - R f) / mean(f)`` (Cochran, Sampling Techniques, 6.3).
    """
    skip, branch = total.unbind(1)
    ratio = (skip / branch).where(branch > 0, torch.nan)
    residual = square[:, 0] - 2 * ratio * products + ratio.square() * square[:, 1]
    variance = residual.clamp_min(0) / (images - 1) / (branch / images).square()
    return over_repeats(ratio, variance, images)


@dataclass(frozen=True)
class Together:
    """Mean ratios of all places and models, with how they vary together over images.

    Attributes:
        values: (repeats, A) means over images, NaN where one is infinite; A as in `fold.TOGETHER`.
        covariance: (repeats, A, A) over images; images: (repeats,).
        fresh: whether the repeats show other images (`freshness`).
    """

    values: Tensor
    covariance: Tensor
    images: Tensor
    fresh: Tensor

    @property
    def quantile(self) -> float:
        """Standard errors on each side of a 95 % interval."""
        return t_quantile(int(self.images.min()))

    def contrast(self, weights: Tensor) -> tuple[float, float]:
        """Value and standard error of ``sum_a weights[a] values[a]``."""
        used = weights != 0
        w = weights[used]
        variance = torch.einsum("i,rij,j->r", w, self.covariance[:, used][:, :, used], w).clamp_min(0)
        mean = over_repeats(self.values[:, used] @ w, variance, self.images, self.fresh)
        return float(mean.value), float(mean.error)


def estimate_together(counts: Tensor, sums: Tensor, products: Tensor, images: Tensor) -> Together:
    """Make means and covariances from `fold.TOGETHER`: counts and sums (repeats, A), products (repeats, A, A)."""
    n = images[:, None]
    values = sums / n
    covariance = (products - n[..., None] * values[:, :, None] * values[:, None, :]) / (n[..., None] - 1)
    values = values.where(counts == n, torch.nan)
    return Together(values, covariance, images, freshness(values, covariance.diagonal(dim1=1, dim2=2), n))
