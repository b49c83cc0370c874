"""Attention weights of a site a few megabytes at a time, recomputed where a fused kernel hides them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from seelike.anatomy import Anatomy, Point
from seelike.anatomy.positions import PlacedAttention
from seelike.errors import SeelikeError
from seelike.studies.base import Reading

CHUNK_BYTES = 8 * 2**20
"""Attention weights made at a time: small enough to stay in the cache, large enough to keep the kernels busy."""

Chunk = tuple[slice, slice, Tensor]
"""Rows of the batch, heads, and their weights (rows, heads, queries, keys)."""


def reading(placed: PlacedAttention, *, shares: bool = False) -> Reading:
    """What must be read of a site to have its weights, and to check them where they are recomputed.

    These are the weights that meet the values. With `shares` they must say how much of its attention a query gives to
    each key: where a norm after the softmax makes them signed (Re-attention), that is what the softmax puts out.
    """
    site = placed.site
    if shares and site.softmax is not None:
        return Reading(site.name, (site.softmax,))
    if site.probabilities is not None:
        return Reading(site.name, (site.probabilities,))
    points: tuple[Point, ...] = (site.query, site.key, site.value, site.output)
    return Reading(site.name, (*points, placed.own_mask) if placed.own_mask is not None else points)


def weights(
    model: str,
    anatomy: Anatomy,
    placed: PlacedAttention,
    tensors: tuple[Tensor, ...],
    *,
    check: bool = False,
    only: slice = slice(None),
) -> Iterator[Chunk]:
    """Hand out the attention weights of what was read of a site, in chunks of `CHUNK_BYTES` or one head.

    Args:
        model: label, for messages; anatomy: of the model.
        placed: the site; tensors: what `reading` asked for.
        only: heads wanted, all by default; the heads of a chunk are counted from the first of them.
        check: make sure that the recomputed weights times the values are what the fused kernel returned.

    Raises:
        SeelikeError: they are not.
    """
    site = placed.site
    if site.probabilities is not None:
        whole = _four(tensors[0], placed)[:, only]
        for rows, heads in _parts(whole.shape, whole.element_size()):
            yield rows, heads, _wide(whole[rows, heads])
        return
    query, key, value, output = (_four(tensor, placed) for tensor in tensors[:4])
    key, value = (_share_heads(tensor, query.shape[1])[:, only] for tensor in (key, value))
    everything = (*query.shape[:3], key.shape[2])
    query, output = query[:, only], output[:, only]
    shape = (*query.shape[:3], key.shape[2])
    mask = placed.shared_mask if placed.own_mask is None else _four(tensors[4], placed)
    mask = mask.expand(everything)[:, only] if mask is not None else None
    for rows, heads in _parts(shape, max(4, query.element_size())):
        part = mask[rows, heads] if mask is not None else None
        found = anatomy.attention_probabilities(
            site, _wide(query[rows, heads]), _wide(key[rows, heads]), part if part is None else _wide(part)
        )
        if check:
            _check(model, placed, found, value[rows, heads], output[rows, heads])
        yield rows, heads, found


def _four(tensor: Tensor, placed: PlacedAttention) -> Tensor:
    """(rows, heads, tokens, ...), whether heads have a dimension or are folded into the batch."""
    return tensor if tensor.dim() == 4 else tensor.reshape(-1, placed.heads, *tensor.shape[1:])


def _share_heads(tensor: Tensor, heads: int) -> Tensor:
    """Grouped queries share keys and values in runs."""
    return tensor if tensor.shape[1] == heads else tensor.repeat_interleave(heads // tensor.shape[1], dim=1)


def _parts(shape: tuple[int, ...], itemsize: int) -> Iterator[tuple[slice, slice]]:
    rows, heads, queries, keys = shape
    head = queries * keys * itemsize
    heads_at_once = min(heads, max(1, CHUNK_BYTES // head))
    rows_at_once = max(1, CHUNK_BYTES // (head * heads))
    for row in range(0, rows, rows_at_once):
        for first in range(0, heads, heads_at_once):
            yield slice(row, row + rows_at_once), slice(first, first + heads_at_once)


def _wide(tensor: Tensor) -> Tensor:
    """At least float32, so that sums over thousands of keys keep their digits."""
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor


def _check(model: str, placed: PlacedAttention, found: Tensor, value: Tensor, output: Tensor) -> None:
    made, output = found @ value.to(found.dtype), output.to(found.dtype)
    # What the kernel rounds its weights and output to; a non-finite difference is reported as such later on.
    tolerance = max(1e-5, 4 * torch.finfo(value.dtype).eps)
    difference = float((made - output).abs().max() / output.abs().max().clamp(min=torch.finfo(output.dtype).tiny))
    if difference > tolerance:
        raise SeelikeError(
            f"{model}: attention recomputed at {placed.site.name} differs from what its fused kernel returned by "
            f"{difference:.1e} of the largest value, more than {tolerance:.0e}: its weights cannot be trusted; make "
            "the model write its attention out (timm: TIMM_FUSED_ATTN=0; Hugging Face: attn_implementation='eager') "
            "or report the model"
        )
