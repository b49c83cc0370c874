"""The labelled result of one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from seelike.anatomy import Anatomy
from seelike.anatomy.positions import PlacedAttention
from seelike.studies.attention.estimate import ImageMeans
from seelike.studies.attention.results import block_coordinates


@dataclass(frozen=True)
class SimilarityMeans:
    """Similarities of blocks whose maps have one shape.

    Attributes:
        sites: the blocks' attentions; blocks: means (blocks, blocks); heads: means (blocks, heads, heads).
    """

    sites: tuple[PlacedAttention, ...]
    blocks: ImageMeans
    heads: ImageMeans


def adjacent(similarity: Tensor) -> Tensor:
    """Similarity of every block but the first to the one before: (..., blocks, blocks) -> (..., blocks - 1)."""
    return similarity.diagonal(offset=1, dim1=-2, dim2=-1)


def between_heads(similarity: Tensor) -> Tensor:
    """Mean similarity of different heads: (..., heads, heads) -> (...); NaN for a single head."""
    heads = similarity.shape[-1]
    off = similarity.sum((-2, -1)) - similarity.diagonal(dim1=-2, dim2=-1).sum(-1)
    return off / (heads * (heads - 1)) if heads > 1 else torch.full_like(off, torch.nan)


def similarity_dataset(found: Sequence[SimilarityMeans], model: str, anatomy: Anatomy, threshold: float) -> xr.Dataset:
    """How alike the attention maps of a model's blocks and heads are, averaged over images.

    Variables: ``similarity`` and ``similarity_error`` (block, other_block), NaN for blocks whose maps differ in
    shape; ``adjacent`` and ``adjacent_error`` (block), similarity to the block before, NaN for the first;
    ``similar_share``, share of the blocks with a block before that exceed the threshold; ``head_similarity`` and
    ``head_similarity_error`` (block, head, other_head); ``head_similarity_mean`` (block), of different heads.
    """
    order = sorted((p for f in found for p in f.sites), key=lambda p: anatomy.attentions.index(p.site))
    place = {placed.site.name: index for index, placed in enumerate(order)}
    most = max(placed.heads for placed in order)
    count = len(order)
    maps = np.full((2, count, count), np.nan)
    near = np.full((2, count), np.nan)
    heads = np.full((2, count, most, most), np.nan)
    mean = np.full(count, np.nan)
    for each in found:
        rows = [place[placed.site.name] for placed in each.sites]
        size = each.sites[0].heads
        for index, (blocks, own) in enumerate(
            ((each.blocks.mean, each.heads.mean), (each.blocks.error, each.heads.error))
        ):
            maps[index][np.ix_(rows, rows)] = blocks.numpy()
            near[index, rows[1:]] = adjacent(blocks).numpy()
            heads[index][np.ix_(rows, range(size), range(size))] = own.numpy()
        mean[rows] = between_heads(each.heads.mean).numpy()
    coordinates = block_coordinates(anatomy, order, most)
    other = {
        "other_block": ("other_block", np.array([placed.site.name for placed in order], dtype=object)),
        "other_head": ("other_head", np.arange(most)),
    }
    units = {"units": "1"}
    pair, inside = ("block", "other_block"), ("block", "head", "other_head")
    dataset = xr.Dataset(coords={**coordinates, **other})
    dataset["similarity"] = (pair, maps[0], {**units, "long_name": "mean cosine of attention maps of two blocks"})
    dataset["similarity_error"] = (pair, maps[1], {**units, "long_name": "standard error of similarity"})
    dataset["adjacent"] = ("block", near[0], {**units, "long_name": "similarity to the block before"})
    dataset["adjacent_error"] = ("block", near[1], {**units, "long_name": "standard error of adjacent"})
    dataset["head_similarity"] = (inside, heads[0], {**units, "long_name": "mean cosine of maps of two heads"})
    dataset["head_similarity_error"] = (inside, heads[1], {**units, "long_name": "standard error of head_similarity"})
    dataset["head_similarity_mean"] = ("block", mean, {**units, "long_name": "mean over pairs of different heads"})
    with_one_before = near[0][np.isfinite(near[0])]
    share = float((with_one_before > threshold).mean()) if with_one_before.size else np.nan
    dataset["similar_share"] = ((), share, {**units, "long_name": f"share of blocks with adjacent above {threshold}"})
    return dataset.assign_attrs(
        study="attention-similarity",
        model=model,
        estimator="mean cosine of equal columns of attention maps, over columns, heads and images (DeepViT, Zhou et "
        "al. 2021)",
        error="standard error of the mean over images",
        threshold=threshold,
        images=int(found[0].blocks.images.sum(1).max()),
    )
