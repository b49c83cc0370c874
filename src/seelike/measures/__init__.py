"""Pure functions on tensors: no models, no files. Each docstring gives shapes and source."""

from seelike.measures.cka import (
    Estimator,
    cka,
    cka_from_products,
    gram_products,
    hsic_biased,
    hsic_unbiased,
)
from seelike.measures.gram import float64_device, shifted_gram, u_centre, write_gram
from seelike.measures.jackknife import jackknife_error, leave_one_out, t_quantile
from seelike.measures.products import GramSums, gram_sums, hsic_products
from seelike.measures.structure import (
    best_match,
    best_split,
    block_contrast,
    ends_similarity,
    lower_half_match_depth,
    relative_depth,
)

__all__ = [
    "Estimator",
    "GramSums",
    "best_match",
    "best_split",
    "block_contrast",
    "cka",
    "cka_from_products",
    "ends_similarity",
    "float64_device",
    "gram_products",
    "gram_sums",
    "hsic_biased",
    "hsic_products",
    "hsic_unbiased",
    "jackknife_error",
    "leave_one_out",
    "lower_half_match_depth",
    "relative_depth",
    "shifted_gram",
    "t_quantile",
    "u_centre",
    "write_gram",
]
