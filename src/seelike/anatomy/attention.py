"""Find the attentions over tokens: queries, keys, values, and where the probabilities are.

A fused kernel names its queries, keys and values. Written out, an attention is a product of two data-dependent
operands (the scores), a softmax, and a product with the values; what lies between softmax and values (dropout,
talking heads, re-normalisation) belongs to the probabilities, so they are read where they meet the values.
Softmax alone is not attention: gates of selective kernels have no scores, factorised attention takes the softmax of
the keys, and channel attention (XCiT, DaViT) weighs channels; none of them is reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seelike.anatomy.flow import Flow, FlowNode, Ref, argument
from seelike.anatomy.ops import (
    ADDITIONS,
    CONVOLUTIONS,
    ELEMENTWISE,
    FUSED_ATTENTION,
    LINEARS,
    NORMS,
    PRODUCTS,
    RELABEL,
    SOFTMAXES,
)
from seelike.anatomy.sites import AttentionSite

CARRIERS = (
    RELABEL | ELEMENTWISE | CONVOLUTIONS | LINEARS | NORMS | frozenset(["masked_fill", "getitem", "cat", "select"])
)
"""What may lie between scores, softmax and the product with the values."""

FURTHEST = 40
"""Nodes looked at on the way from a softmax to its products."""


@dataclass(frozen=True)
class Attention:
    """An attention over tokens by node indices."""

    query: int
    key: int
    value: int
    output: int
    probabilities: int | None
    mask: int | None
    scale: float | None
    causal: bool = False
    softmax: int | None = None
    """The softmax, where a norm between it and `probabilities` makes signed weights of them (Re-attention)."""

    @property
    def fused(self) -> bool:
        """Whether one kernel does it all."""
        return self.probabilities is None


def find_attentions(flow: Flow) -> list[Attention]:
    """All attentions over tokens, in execution order."""
    found: dict[int, Attention] = {}
    for node in flow.nodes:
        attention = None
        if node.dependent and node.op in FUSED_ATTENTION:
            attention = _fused(flow, node)
        elif node.dependent and node.op in SOFTMAXES:
            attention = _written_out(flow, node)
        if attention is not None:
            found[attention.output] = attention
    return [found[output] for output in sorted(found)]


def _fused(flow: Flow, node: FlowNode) -> Attention | None:
    query, key, value = (ref.index for ref in node.args[:3])
    tokens, width = flow[key].shape or (0, 0), flow[value].shape or (0,)
    if _over_channels(flow, key, contracted=tokens[-1], weighed=tokens[-2], width=width[-1]):
        return None
    mask = argument(node, 3, "attn_mask")
    scale = argument(node, 6, "scale")
    return Attention(
        query,
        key,
        value,
        node.index,
        probabilities=None,
        mask=mask.index if isinstance(mask, Ref) else None,
        scale=float(scale) if isinstance(scale, int | float) else tokens[-1] ** -0.5,
        causal=bool(argument(node, 5, "is_causal")),
    )


def _written_out(flow: Flow, softmax: FlowNode) -> Attention | None:
    scores = _scores(flow, softmax.index)
    meeting = _product_with_values(flow, softmax.index)
    if scores is None or meeting is None or softmax.shape is None:
        return None
    product, probabilities, value = meeting
    left, right = _factors(scores)
    contracted = _contracted(flow, scores, left)
    axis = argument(softmax, 1, "dim")
    weighed = softmax.shape[axis if isinstance(axis, int) else -1]
    widths = [size for size in (flow[value].shape or ())[-2:] if size != weighed] or [weighed]
    if _over_channels(flow, right, contracted=contracted, weighed=weighed, width=widths[-1]):
        return None
    normed = flow.between(softmax.index, probabilities) & flow.mask(NORMS)
    return Attention(
        left,
        _untransposed(flow, right),
        value,
        product,
        probabilities,
        mask=None,
        scale=None,
        softmax=softmax.index if normed and softmax.shape == flow[probabilities].shape else None,
    )


def _factors(product: FlowNode) -> tuple[int, int]:
    """The two operands of a product."""
    operands = product.args[1] if product.op == "einsum" else product.args
    if product.op == "baddbmm":
        operands = product.args[1:]
    left, right = [operand.index for operand in operands if isinstance(operand, Ref)][:2]
    return left, right


def _multiplies_data(flow: Flow, node: FlowNode) -> bool:
    """Whether a product has two operands that both come from the image."""
    if node.op not in PRODUCTS:
        return False
    operands = node.args[1] if node.op == "einsum" else node.args
    return sum(isinstance(o, Ref) and flow[o.index].dependent for o in operands) >= 2


def _scores(flow: Flow, softmax: int) -> FlowNode | None:
    """The nearest product of two data-dependent operands above a softmax."""
    waiting = [p for p in flow[softmax].parents if flow[p].dependent]
    seen: set[int] = set()
    while waiting and len(seen) < FURTHEST:
        index = waiting.pop(0)
        node = flow[index]
        if index in seen:
            continue
        seen.add(index)
        if _multiplies_data(flow, node):
            return node
        if node.op in CARRIERS or node.op in PRODUCTS:
            waiting += [p for p in node.parents if flow[p].dependent]
    return None


def _product_with_values(flow: Flow, softmax: int) -> tuple[int, int, int] | None:
    """Product, probabilities as they enter it, and values: the nearest product below a softmax."""
    waiting, seen = [softmax], {softmax}
    while waiting and len(seen) < FURTHEST:
        index = waiting.pop(0)
        for user in flow.users[index]:
            node = flow[user]
            if user in seen or not node.dependent:
                continue
            if _multiplies_data(flow, node):
                left, right = _factors(node)
                other = right if left == index else left
                return user, _untransposed(flow, index) if right == index else index, other
            seen.add(user)
            if node.op in CARRIERS or node.op in PRODUCTS:  # a product with a parameter: heads are mixed
                waiting.append(user)
    return None


def _untransposed(flow: Flow, index: int) -> int:
    """Take off a swap of the last two dimensions."""
    node = flow[index]
    source = flow.source(index)
    if source is None or node.shape is None:
        return index
    last = len(node.shape) - 1
    if node.op in ("transpose", "swapaxes"):
        swaps = {dim % (last + 1) for dim in node.args[1:3]} == {last - 1, last}
    elif node.op == "permute":
        swaps = [dim % (last + 1) for dim in node.args[1]] == [*range(last - 1), last, last - 1]
    else:
        swaps = node.op in ("mT", "numpy_T") and last == 1
    return source if swaps else index


def _contracted(flow: Flow, scores: FlowNode, left: int) -> int:
    """How many terms a score is the sum of."""
    shape = flow[left].shape or (0,)
    if scores.op != "einsum":
        return shape[-1]
    terms, result = str(scores.args[0]).replace(" ", "").split("->")
    first, second = terms.split(",")
    summed = [letter for letter in first if letter in second and letter not in result]
    return shape[first.index(summed[0])] if summed and "." not in first else shape[-1]


def _over_channels(flow: Flow, key: int, *, contracted: int, weighed: int, width: int) -> bool:
    """Whether scores sum over positions and weigh channels, the transpose of attention over tokens.

    The keys' projection says how many positions and channels there are: sums over as many terms as there are
    positions, weighing a part of the channels.
    """
    found = _projection(flow, key)
    if found is None:
        return False
    positions, channels = found
    return contracted == positions == width and weighed != positions and channels % weighed == 0


def _projection(flow: Flow, index: int) -> tuple[int, int] | None:
    """Positions per image, and channels, of the nearest projection above a node."""
    seen = 0
    waiting = [index]
    while waiting and seen < FURTHEST:
        node = flow[waiting.pop(0)]
        seen += 1
        if node.numel and node.shape and node.op in LINEARS:
            return node.numel // node.shape[-1], node.shape[-1]
        if node.numel and node.shape and node.op in CONVOLUTIONS:
            return node.numel // node.shape[1], node.shape[1]
        waiting += [p for p in node.parents if flow[p].dependent]
    return None


def attention_core(flow: Flow, found: Attention) -> int:
    """Bitmask of what is between the projections to queries, keys and values (included) and the output (not)."""
    parts = (found.query, found.key, found.value)
    shared = flow.ancestors[parts[0]] & flow.ancestors[parts[1]] & flow.ancestors[parts[2]]
    owner = flow[found.output].path
    # A norm outside the module that all three are made from stands before the attention.
    kept = shared & sum(1 << n.index for n in flow.nodes if n.op in NORMS and not (owner and _within(n.path, owner)))
    projections = flow.mask(CONVOLUTIONS | LINEARS)
    scores = flow.descendants[found.query] & flow.descendants[found.key]
    mask = scores & flow.ancestors[found.output]
    for part in parts:
        mask |= _up_to_projection(flow, part, projections, owner) & ~kept
    return mask & ~(1 << found.output)


def _within(path: str, owner: str) -> bool:
    """Whether a module is `owner` or inside it."""
    return path == owner or path.startswith(f"{owner}.")


def _up_to_projection(flow: Flow, index: int, projections: int, owner: str) -> int:
    """Bitmask of what lies between a node and the nearest projections above it, these included.

    A sum of data outside the module that owns the attention ends the way: it is the residual stream, met where
    queries have no projection of their own (GCViT's global queries).
    """
    mask, waiting = 0, [index]
    while waiting:
        here = waiting.pop()
        if mask >> here & 1 or flow[here].op == "placeholder":
            continue
        if flow[here].op in ADDITIONS and flow.source(here) is None and owner and not _within(flow[here].path, owner):
            continue
        mask |= 1 << here
        if not projections >> here & 1:
            waiting += [p for p in flow[here].parents if flow[p].dependent]
    return mask


def as_site(flow: Flow, found: Attention, name: str, block: str | None) -> AttentionSite:
    """Put an attention into the words of an anatomy."""
    query, key, value = flow[found.query], flow[found.key], flow[found.value]
    grid = flow[found.probabilities] if found.probabilities is not None else None
    shape: tuple[int, ...]
    if grid is not None and grid.shape is not None:
        shape = grid.shape
    else:
        shape = (*(query.shape or (0, 0, 0))[:-1], (key.shape or (0, 0))[-2])
    return AttentionSite(
        name=name,
        block=block,
        query=query.point,
        key=key.point,
        value=value.point,
        output=flow[found.output].point,
        probabilities=grid.point if grid is not None else None,
        mask=flow[found.mask].point if found.mask is not None else None,
        scale=found.scale,
        heads=shape[-3] if len(shape) >= 4 else 1,
        head_dim=(value.shape or (0,))[-1],
        query_tokens=shape[-2],
        key_tokens=shape[-1],
        fused=found.fused,
        batch_factor=max(query.batch_factor, 1),
        causal=found.causal,
        softmax=flow[found.softmax].point if found.softmax is not None else None,
    )


def probabilities(site: AttentionSite, query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
    """Recompute ``softmax(scale * q k^T + mask)`` of a fused attention, (..., heads, queries, keys).

    A boolean mask is true where attention is allowed. Grouped queries (fewer key heads than query heads) share
    their keys in runs, as in `torch.nn.functional.scaled_dot_product_attention`.
    """
    if query.ndim >= 4 and key.shape[-3] != query.shape[-3]:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    scores: Any = (query * (1.0 if site.scale is None else site.scale)) @ key.transpose(-2, -1)
    if site.causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, float("-inf"))
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return torch.softmax(scores, dim=-1)
