"""Centred kernel alignment and the Hilbert-Schmidt independence criterion behind it (paper.md 2.1).

Kornblith et al. 2019 (CKA), Song et al. 2012 (the unbiased HSIC), Nguyen, Raghu & Kornblith 2021 (its minibatch
form). Nothing here clamps: the unbiased estimate of a small similarity may be a little below zero, and that is
what an unbiased estimate is.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from seelike.measures.gram import shifted_gram, u_centre
from seelike.measures.products import gram_sums, hsic_products

Estimator = Literal["unbiased", "biased"]


def hsic_unbiased(k: Tensor, l: Tensor) -> Tensor:
    """HSIC_1 of Song et al. 2012 from Gram matrices (..., n, n), n >= 4; may be negative."""
    n = k.shape[-1]
    return (u_centre(k) * u_centre(l)).sum((-2, -1)) / (n * (n - 3))


def hsic_biased(k: Tensor, l: Tensor) -> Tensor:
    """``<HKH, HLH> / (n - 1)^2`` from Gram matrices (..., n, n); biased upwards for wide features."""
    n = k.shape[-1]
    return (_centre(k) * _centre(l)).sum((-2, -1)) / (n - 1) ** 2


def _centre(gram: Tensor) -> Tensor:
    rows = gram.mean(-1, keepdim=True)
    return gram - rows - rows.mT + rows.mean(-2, keepdim=True)


def cka(x: Tensor, y: Tensor, estimator: Estimator = "unbiased") -> Tensor:
    """Linear CKA of two sets of features of the same examples, all in memory.

    Args:
        x: (n, ...) features, n >= 4; y: (n, ...) features of the same n examples.
        estimator: ``unbiased`` (HSIC_1; the one to use when features outnumber examples) or ``biased``.

    Returns:
        A float64 scalar; NaN when one side does not vary at all.

    Raises:
        ValueError: the numbers of examples differ, or are under 4.
    """
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"x has {x.shape[0]} examples and y has {y.shape[0]}; CKA needs the same examples")
    hsic = hsic_unbiased if estimator == "unbiased" else hsic_biased
    k, l = shifted_gram(x), shifted_gram(y)
    return cka_from_products(hsic(k, l)[None, None], hsic(k, k)[None], hsic(l, l)[None])[0, 0]


def gram_products(grams: Tensor, other: Tensor) -> Tensor:
    """Products of all pairs of U-centred Grams, ``n (n - 3) HSIC_1``, in one matrix product.

    Args:
        grams: (layers, n, n) Grams of one minibatch; other: (other_layers, n, n) of the same examples.

    Returns:
        (layers, other_layers) float64.
    """
    return hsic_products(gram_sums(grams), gram_sums(other))


def cka_from_products(cross: Tensor, own: Tensor, other_own: Tensor) -> Tensor:
    """CKA of all pairs from summed products: divide once, after summing.

    Args:
        cross: (..., layers, other_layers); own: (..., layers) and other_own: (..., other_layers), each layer's
            product with itself, never negative.

    Returns:
        (..., layers, other_layers), NaN where a layer does not vary.
    """
    # One root of the product, not a product of roots: a layer with itself is then 1 to the last bit.
    scale = (own.clamp_min(0)[..., :, None] * other_own.clamp_min(0)[..., None, :]).sqrt()
    return torch.where(scale > 0, cross / scale, torch.nan)
