"""The position embedding of a model: what is added to its tokens (or to its map), the same for every image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.anatomy.anatomy import Anatomy
from seelike.anatomy.attention import attention_core, find_attentions
from seelike.anatomy.embedding import CannotRead, constant
from seelike.anatomy.flow import Flow, FlowNode, Ref
from seelike.anatomy.layout import MOST_PREFIX_TOKENS
from seelike.anatomy.positions import PREFIX_BEHIND

Grid = tuple[int, int]


@dataclass(frozen=True)
class PositionEmbedding:
    """A position embedding of patches.

    Attributes:
        source: names of the tensors that it is made from, in the model.
        values: (rows, columns, d) float64, on the CPU, prefix tokens left out.
        prefix_tokens: how many of those have an embedding too.
    """

    source: tuple[str, ...]
    values: Tensor
    prefix_tokens: int


def read_position_embedding(anatomy: Anatomy, flow: Flow, grid: Grid | None = None) -> PositionEmbedding:
    """Find what is added to tokens or map before the first attention (before the first block, without attention).

    Several additions at the same tensor's way (one for rows, one for columns) are summed; of stages with an embedding
    each, the first counts.

    Args:
        anatomy: of the model; flow: of its graph; grid: of its patch embedding, where that is known.

    Raises `CannotRead` with what is there instead when nothing is added, or its places cannot be told.
    """
    found = list(_additions(flow, _before(anatomy, flow)))
    if not found:
        raise CannotRead(f"nothing is added to its tokens by position{_instead(flow)}")
    shape = found[0][0].shape
    assert shape is not None  # `_additions` looks at shapes
    same = [fixed for node, fixed in found if node.shape == shape]
    with torch.no_grad():
        values = sum(constant(anatomy, fixed.point).expand(shape)[0] for fixed in same)
    assert isinstance(values, Tensor)
    placed, prefix = _place(values, _grids(anatomy, grid), behind=_behind(anatomy))
    names = dict.fromkeys(name for fixed in same for name in _tensors(anatomy, flow, fixed))
    return PositionEmbedding(tuple(names), placed, prefix)


def _before(anatomy: Anatomy, flow: Flow) -> int:
    """Bitmask of the nodes among which an embedding is looked for."""
    attentions = find_attentions(flow)
    if attentions:
        first = attentions[0]
        inside = flow.between(first.query, first.output) | flow.between(first.key, first.output)
        return flow.ancestors[first.query] & ~inside & ~attention_core(flow, first)
    return flow.ancestors[flow.by_point[anatomy.residuals[0].skip]] if anatomy.residuals else 0


def _additions(flow: Flow, among: int) -> Iterator[tuple[FlowNode, FlowNode]]:
    """Sums of something from the image and something fixed that differs between positions, with the latter."""
    for node in flow.nodes:
        if not among >> node.index & 1 or node.op != "add" or node.shape is None or len(node.shape) not in (3, 4):
            continue
        operands = [flow[each.index] for each in node.args[:2] if isinstance(each, Ref)]
        fixed = [each for each in operands if not each.dependent]
        if len(operands) == 2 and len(fixed) == 1 and _differs_by_position(fixed[0].shape, node.shape):
            yield node, fixed[0]


def _differs_by_position(fixed: tuple[int, ...] | None, stream: tuple[int, ...]) -> bool:
    if fixed is None or len(fixed) < 2:
        return False
    fixed = (1,) * (len(stream) - len(fixed)) + fixed
    return sum(size > 1 for size in fixed[1:]) >= 2  # channels, and rows or columns or tokens


def _place(values: Tensor, grids: list[Grid], *, behind: bool) -> tuple[Tensor, int]:
    """Lay (tokens, d), (rows, columns, d) or (d, rows, columns) out as (rows, columns, d)."""
    for rows, columns in grids:
        if values.ndim == 3 and tuple(values.shape[:2]) == (rows, columns):
            return values, 0
        if values.ndim == 3 and tuple(values.shape[1:]) == (rows, columns):
            return values.permute(1, 2, 0), 0
        prefix = len(values) - rows * columns
        if values.ndim == 2 and 0 <= prefix <= MOST_PREFIX_TOKENS and rows * columns > 1:
            patches = values[: rows * columns] if behind else values[prefix:]
            return patches.reshape(rows, columns, -1), prefix
    raise CannotRead(f"{tuple(values.shape)} values are added to its tokens and cannot be laid out as a grid")


def _grids(anatomy: Anatomy, first: Grid | None) -> list[Grid]:
    """Grids that were read off the model, that of the patches first."""
    read = [layer.layout.grid for layer in anatomy.layers if layer.layout.grid is not None]
    return list(dict.fromkeys([*([first] if first is not None else []), *read]))


def _behind(anatomy: Anatomy) -> bool:
    return any(note.startswith(PREFIX_BEHIND) for note in anatomy.notes)


def _tensors(anatomy: Anatomy, flow: Flow, node: FlowNode) -> list[str]:
    """Names in the model of the tensors that something fixed is made from."""
    names = {each.name: str(each.target) for each in anatomy.graph.nodes if each.op == "get_attr"}
    waiting, seen = [node.index], set[int]()
    while waiting:
        index = waiting.pop()
        if index not in seen:
            seen.add(index)
            waiting += flow[index].parents
    return [names[flow[index].point] for index in sorted(seen) if flow[index].point in names]


def _instead(flow: Flow) -> str:
    """What tells the attention where tokens lie, as far as it can be seen."""
    for attention in find_attentions(flow):
        between = flow.descendants[attention.query] & flow.ancestors[attention.output]
        fixed = attention.mask is not None and not flow[attention.mask].dependent
        if fixed or any(between >> node.index & 1 for node in _with_fixed(flow, "add", flow[attention.key])):
            return "; its attention has biases of its own"
        core = attention_core(flow, attention)
        if any(core >> node.index & 1 for node in _with_fixed(flow, "mul", flow[attention.query])):
            return "; its queries and keys are turned by position (rotary)"
    return ""


def _with_fixed(flow: Flow, operation: str, like: FlowNode) -> Iterator[FlowNode]:
    """Sums or products with something fixed that has an entry per token of `like`, prefix tokens perhaps left out."""
    least = max(2, (like.shape or (0, 0))[-2] - MOST_PREFIX_TOKENS)
    for node in flow.nodes:
        operands = [flow[each.index] for each in node.args[:2] if isinstance(each, Ref)]
        fixed = [each.shape or () for each in operands if not each.dependent]
        if node.dependent and node.op == operation and any(shape[-2] >= least for shape in fixed if len(shape) >= 2):
            yield node
