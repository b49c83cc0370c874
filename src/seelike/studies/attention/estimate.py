"""From sums over images to means over images with standard errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.measures import jackknife_error, leave_one_out, t_quantile
from seelike.studies.means import Mean, freshness, over_repeats


@dataclass(frozen=True)
class ImageMeans:
    """Means over images, of any shape, with what is needed for errors.

    Attributes:
        sums: (2, repeats, groups, *shape) of the values of single images, and of their squares.
        images: (repeats, groups) how many images.
    """

    sums: Tensor
    images: Tensor

    @property
    def mean(self) -> Tensor:
        """(*shape), mean over images of the mean over repeats."""
        return self._over_images().value

    @property
    def spread(self) -> Tensor:
        """(*shape), standard deviation over images."""
        return self._over_images().spread

    @property
    def error(self) -> Tensor:
        """(*shape), standard error of the mean."""
        return self._over_images().error

    @property
    def groups(self) -> int:
        """Groups of minibatches that hold images, the fewest of any repeat."""
        return int((self.images > 0).sum(1).min())

    @property
    def quantile(self) -> float:
        """Standard errors on each side of a 95 % interval of a `statistic`."""
        return t_quantile(self.groups)

    def statistic(self, of: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        """Value and standard error (jackknife over groups of minibatches) of a number made of the means.

        Args:
            of: means (..., *shape) -> (...).
        """
        per_repeat = of(self._per_repeat())
        errors = [
            jackknife_error(of(_divide(leave_one_out(sums), leave_one_out(images))), value, images)
            for sums, images, value in zip(self.sums[0], self.images, per_repeat, strict=True)
        ]
        counts = self.images.sum(1)
        variance = torch.stack(errors).square() * counts  # that of an image, as far as the statistic is a mean
        found = over_repeats(per_repeat, variance, counts, self._freshness())
        return float(found.value), float(found.error)

    def _over_images(self) -> Mean:
        return over_repeats(self._per_repeat(), self._variance(), self._counts(), self._freshness())

    def _freshness(self) -> Tensor:
        """How far repeats show other images, from all means that differ by more than rounding."""
        value, variance = self._per_repeat(), self._variance()
        told = variance > 1e-12 * value.square()
        return freshness(value, torch.where(told, variance, torch.nan), self._counts())

    def _per_repeat(self) -> Tensor:
        return _divide(self.sums[0].sum(1), self.images.sum(1))

    def _counts(self) -> Tensor:
        return self.images.sum(1).reshape(-1, *[1] * (self.sums.dim() - 3))

    def _variance(self) -> Tensor:
        """(repeats, *shape) between the images of a repeat; NaN with a single image."""
        counts = self._counts()
        first, second = self.sums.sum(2)
        squares = (second - first.square() / counts).clamp(min=0)  # rounding, where all images are alike
        return torch.where(counts > 1, squares / (counts - 1), torch.nan)


def _divide(sums: Tensor, images: Tensor) -> Tensor:
    return sums / images.reshape(-1, *[1] * (sums.dim() - 1))


@dataclass(frozen=True)
class HeadEstimate:
    """Mean, spread and error over images of every head of one model.

    Attributes:
        means: of shape (quantities, sites, heads), the first quantity being the distance in pixels.
        heads: of each site; fewer than the last dimension where sites differ.
        uniform: (sites,) distance of uniform attention in pixels.
    """

    means: ImageMeans
    heads: tuple[int, ...]
    uniform: Tensor

    @property
    def mean(self) -> Tensor:
        """(quantities, sites, heads), NaN where there is no head."""
        return self._present(self.means.mean)

    @property
    def spread(self) -> Tensor:
        """(quantities, sites, heads), standard deviation over images."""
        return self._present(self.means.spread)

    @property
    def error(self) -> Tensor:
        """(quantities, sites, heads), standard error of the mean."""
        return self._present(self.means.error)

    @property
    def quantile(self) -> float:
        """Standard errors on each side of a 95 % interval of a `statistic`."""
        return self.means.quantile

    def statistic(self, of: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        """Value and standard error of a number made of distances relative to uniform attention.

        Args:
            of: (..., sites, heads), NaN where there is no head -> (...).
        """
        return self.means.statistic(lambda means: of(self._present(means[..., 0, :, :] / self.uniform[:, None])))

    def _present(self, values: Tensor) -> Tensor:
        absent = torch.arange(values.shape[-1]) >= torch.tensor(self.heads)[:, None]
        return torch.where(values.isfinite(), values, torch.nan).masked_fill(absent, torch.nan)
