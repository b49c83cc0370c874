"""Pure functions on tensors: no models, no files. Each docstring gives shapes and source."""

from seelike.measures.cka import (
    Estimator,
    cka,
    cka_from_products,
    gram_products,
    hsic_biased,
    hsic_unbiased,
)
from seelike.measures.gram import pack, shifted_gram, total_spread, u_centre
from seelike.measures.jackknife import jackknife_error, leave_one_out, t_quantile
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
    "best_match",
    "best_split",
    "block_contrast",
    "cka",
    "cka_from_products",
    "ends_similarity",
    "gram_products",
    "hsic_biased",
    "hsic_unbiased",
    "jackknife_error",
    "leave_one_out",
    "lower_half_match_depth",
    "pack",
    "relative_depth",
    "shifted_gram",
    "t_quantile",
    "total_spread",
    "u_centre",
]
