"""Pure functions on tensors: no models, no files. Each docstring gives shapes and source."""

from seelike.measures.attention import (
    attention_distance,
    attention_entropy,
    counted_columns,
    map_similarity,
    pixel_distances,
    prefix_share,
    uniform_distance,
    unit_columns,
)
from seelike.measures.cka import (
    Estimator,
    cka,
    cka_from_products,
    gram_products,
    hsic_biased,
    hsic_unbiased,
)
from seelike.measures.cost import AttentionCost, attention_cost, cost_at
from seelike.measures.embeddings import (
    Exchanged,
    PositionStructure,
    components_needed,
    components_of_noise,
    position_similarity,
    position_structure,
    principal_filters,
)
from seelike.measures.gram import float64_device, shifted_gram, u_centre, write_gram
from seelike.measures.jackknife import jackknife_error, leave_one_out, t_quantile
from seelike.measures.products import GramSums, gram_sums, hsic_products
from seelike.measures.skip import SkipMeasures, skip_measures
from seelike.measures.structure import (
    best_match,
    best_split,
    block_contrast,
    ends_similarity,
    lower_half_match_depth,
    relative_depth,
)

__all__ = [
    "AttentionCost",
    "Estimator",
    "Exchanged",
    "GramSums",
    "PositionStructure",
    "SkipMeasures",
    "attention_cost",
    "attention_distance",
    "attention_entropy",
    "best_match",
    "best_split",
    "block_contrast",
    "cka",
    "cka_from_products",
    "components_needed",
    "components_of_noise",
    "cost_at",
    "counted_columns",
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
    "map_similarity",
    "pixel_distances",
    "position_similarity",
    "position_structure",
    "prefix_share",
    "principal_filters",
    "relative_depth",
    "shifted_gram",
    "skip_measures",
    "t_quantile",
    "u_centre",
    "uniform_distance",
    "unit_columns",
    "write_gram",
]
