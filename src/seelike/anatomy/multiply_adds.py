"""Count the multiply-adds of a model from its graph: which operation, in which block, to what end.

Every operation that multiplies matrices is counted: convolutions, linear layers, matrix products, fused attention.
Norms, activations, softmax, additions, pooling and resizing are not, as in all counters: they do no products to add.
Counts are of one image and exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import fx, nn
from torch._ops import HigherOrderOperator

from seelike.anatomy.anatomy import Anatomy
from seelike.anatomy.blocks import block_of
from seelike.anatomy.flow import Flow, FlowNode, read_flow
from seelike.anatomy.ops import CONVOLUTIONS, named
from seelike.anatomy.products import RULES, kernel_of, shape_of
from seelike.anatomy.purposes import PurposeMasks, purpose_masks
from seelike.anatomy.sites import Point

CostKind = Literal["projections", "attention", "mlp", "convolution", "other"]
KINDS: tuple[CostKind, ...] = get_args(CostKind)

BEFORE, BETWEEN, AFTER = "(before the blocks)", "(between the blocks)", "(after the blocks)"
"""Where operations outside all blocks stand; the last of them in models without blocks, too."""

NOT_COUNTED = named(
    "tensordot bilinear addbmm mv addmv dot vdot lstm gru rnn_tanh rnn_relu deform_conv2d fft_fft fft_ifft fft_fft2 "
    "fft_ifft2 fft_rfft fft_irfft fft_rfft2 fft_irfft2 fft_rfftn fft_irfftn fft_fftn fft_ifftn cdist"
)
"""Operations that multiply and add, and whose number of multiply-adds is not known here; nor is what runs inside a
higher-order operation (a piece of the model under autocast of its own)."""


@dataclass(frozen=True)
class Operation:
    """One operation that multiplies matrices, with its multiply-adds for one image.

    Attributes:
        point: of its output; path: innermost module that runs it; op: bare name of the operation.
        block: module path of its block, or one of `BEFORE`, `BETWEEN`, `AFTER`.
        kind: ``projections`` (queries, keys, values and output of attention), ``attention`` (products of two tensors
            that both come from the image: QK^T, and weights with values), ``mlp`` (linear layers of a block, 1 x 1
            convolutions of a branch that has no other), ``convolution`` (all others), ``other`` (linear layers
            outside blocks, and what is made of weights alone).
        outputs: numbers that it puts out (its activations).
    """

    point: Point
    path: str
    op: str
    block: str
    kind: CostKind
    multiply_adds: int
    outputs: int


@dataclass(frozen=True)
class MultiplyAdds:
    """All counted operations of a model, in execution order.

    Attributes:
        operations: with their counts.
        parameters: (block, kind) -> number of parameters, each counted once, where it is first used; norms, biases of
            positions, class tokens and all that no counted operation takes are ``other``.
        places: blocks in execution order, with the places outside them where there is something.
        notes: what could not be counted.
    """

    operations: tuple[Operation, ...]
    parameters: dict[tuple[str, CostKind], int]
    places: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def total(self) -> int:
        """Multiply-adds of one forward pass of one image."""
        return sum(each.multiply_adds for each in self.operations)


def count_multiply_adds(anatomy: Anatomy) -> MultiplyAdds:
    """Count what one forward pass of one image costs; nothing is run.

    Numbers that depend on the batch in other ways than in proportion are taken at a batch of one.
    """
    graph_module = anatomy.graph.owning_module
    assert graph_module is not None  # the graph is that of a module that runs
    flow = read_flow(graph_module)
    nodes = [node for node in graph_module.graph.nodes if node.op != "output"]
    masks = purpose_masks(flow, anatomy)
    where = _Places(flow, anatomy.blocks)
    operations, lost = [], []
    for node, row in zip(nodes, flow.nodes, strict=True):
        rule = RULES.get(row.op)
        if rule is None:
            unknown = row.op in NOT_COUNTED or isinstance(node.target, HigherOrderOperator)
            lost += [f"{row.op} in {row.path or anatomy.name}"] if unknown else []
            continue
        kind = _kind(node, row, masks, where.inside(row))
        outputs = math.prod(shape_of(node))
        operations.append(Operation(row.point, row.path, row.op, where.of(row), kind, rule(node), outputs))
    notes = (f"not counted: {', '.join(sorted(set(lost)))}",) if lost else ()
    parameters = _parameters(nodes, flow, {each.point: each for each in operations}, where)
    used = {each.block for each in operations} | {place for place, _ in parameters}
    places = tuple(place for place in (BEFORE, *where.in_order, BETWEEN, AFTER) if place in used)
    return MultiplyAdds(tuple(operations), parameters, places, notes)


class _Places:
    """Which block a node belongs to, or where outside them it stands."""

    def __init__(self, flow: Flow, blocks: Sequence[str]) -> None:
        self._known = frozenset(blocks)
        inside = [node.index for node in flow.nodes if node.dependent and self._block(node) is not None]
        self._first, self._last = (inside[0], inside[-1]) if inside else (0, -1)
        self.in_order = tuple(dict.fromkeys(block for i in inside if (block := self._block(flow[i])) is not None))

    def _block(self, node: FlowNode) -> str | None:
        return block_of(node.path, self._known)

    def inside(self, node: FlowNode) -> bool:
        return self._block(node) is not None

    def of(self, node: FlowNode) -> str:
        block = self._block(node)
        if block is not None:
            return block
        if node.index < self._first:
            return BEFORE
        return AFTER if node.index > self._last else BETWEEN


def _kind(node: fx.Node, row: FlowNode, masks: PurposeMasks, in_block: bool) -> CostKind:
    """What an operation is for; see `Operation`."""
    if not row.dependent:
        return "other"
    if masks.products_of_data >> row.index & 1:
        return "attention"
    if row.op in CONVOLUTIONS and (
        math.prod(kernel_of(node)) > 1 or not (masks.projections | masks.mlps) >> row.index & 1
    ):
        return "convolution"
    if masks.projections >> row.index & 1:
        return "projections"
    return "mlp" if in_block else "other"


def _parameters(
    nodes: Sequence[fx.Node], flow: Flow, counted: dict[Point, Operation], where: _Places
) -> dict[tuple[str, CostKind], int]:
    found: dict[tuple[str, CostKind], int] = {}
    seen: set[int] = set()
    for node, row in zip(nodes, flow.nodes, strict=True):
        parameter = _attribute(node) if node.op == "get_attr" else None
        user = _first_user(flow, row.index)
        if not isinstance(parameter, nn.Parameter) or id(parameter) in seen or user is None:
            continue
        seen.add(id(parameter))
        made = counted.get(user.point)
        place: tuple[str, CostKind] = (made.block, made.kind) if made is not None else (where.of(user), "other")
        found[place] = found.get(place, 0) + parameter.numel()
    return found


def _first_user(flow: Flow, index: int) -> FlowNode | None:
    """The first node that brings a parameter together with the image, or the last that takes it at all."""
    waiting, reached = [index], set[int]()
    while waiting:
        for user in flow.users[waiting.pop()]:
            if user not in reached:
                reached.add(user)
                waiting += [] if flow[user].dependent else [user]
    meeting = [user for user in reached if flow[user].dependent]
    if meeting:
        return flow[min(meeting)]
    return flow[max(reached)] if reached else None


def _attribute(node: fx.Node) -> Any:
    found: Any = node.graph.owning_module
    for part in str(node.target).split("."):
        found = getattr(found, part, None)
    return found
