"""Find the residual sums of a model: ``skip + branch``.

Two operands that share an ancestor are true of almost any addition. What makes a residual sum is that one operand
arrives unchanged from above the other (identity skip), or that both hang on one nearest common node with one short
projected way (projected skip), and that the branch computes: it holds a convolution, a linear map, a matrix product
or a pooling, which rules out rotary embeddings and response norms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seelike.anatomy.attention import Attention, attention_core
from seelike.anatomy.flow import Flow, FlowNode, Ref
from seelike.anatomy.ops import ADDITIONS, CONTRACTIONS, MOVES, NORMS, PIECES

LONGEST_PROJECTION = 4
"""Computing operations that a projected skip may hold (pool, convolution, norm, activation)."""

SCALES = NORMS | frozenset(["mul", "div"])
"""What a projected skip may consist of without a contraction: a learned scale, a norm."""


@dataclass(frozen=True)
class Residual:
    """A residual sum by node indices; `top` is where skip and branch part."""

    sum: int
    skip: int
    branch: int
    top: int
    kind: Literal["identity", "projected"]


def find_residuals(flow: Flow, attentions: list[Attention]) -> list[Residual]:
    """All residual sums, in execution order."""
    search = _Search(flow, attentions)
    found = (search.examine(node) for node in flow.nodes if node.op in ADDITIONS and node.dependent)
    return [residual for residual in found if residual is not None]


class _Search:
    """The masks that every addition is held against."""

    def __init__(self, flow: Flow, attentions: list[Attention]) -> None:
        self.flow = flow
        self.inside_attention = 0
        for attention in attentions:
            self.inside_attention |= attention_core(flow, attention)
        self.contracts = flow.mask(CONTRACTIONS)
        moves = flow.mask(MOVES | PIECES)
        self.computes = sum(1 << n.index for n in flow.nodes if n.dependent) & ~moves
        self.scales = sum(1 << n.index for n in flow.nodes if n.op in SCALES and flow.source(n.index) is not None)
        self.dominator, self.depth = _dominators(flow)

    def examine(self, node: FlowNode) -> Residual | None:
        operands = _operands(self.flow, node)
        if operands is None or self.inside_attention >> node.index & 1:
            return None
        return self._identity(node, *operands) or self._projected(node, *operands)

    def _identity(self, node: FlowNode, a: int, b: int) -> Residual | None:
        for skip, branch in ((a, b), (b, a)):
            top = next((c for c in self._unmoved(skip) if self._leads_to(c, branch)), None)
            if top is not None:
                computes = self.flow.between(top, branch) & self.contracts
                return Residual(node.index, skip, branch, top, "identity") if computes else None
        return None

    def _leads_to(self, upper: int, lower: int) -> bool:
        """Whether `lower` is made from `upper`, which may be a learned token of its own (class attention)."""
        return upper != lower and bool(self.flow.descendants[upper] >> lower & 1)

    def _projected(self, node: FlowNode, a: int, b: int) -> Residual | None:
        top = _meet(self.dominator, self.depth, a, b)
        if top is None or self.flow[top].op in PIECES or self.inside_attention >> top & 1:
            return None  # pieces of one tensor, or of one attention, that meet again are no skip
        costs = [(self.flow.between(top, end) & self.computes).bit_count() for end in (a, b)]
        if costs[0] == costs[1] or min(costs) > LONGEST_PROJECTION or not self.flow.users[node.index]:
            return None  # the last case: heads of a classifier that are averaged
        skip, branch = (a, b) if costs[0] < costs[1] else (b, a)
        shortcut = self.flow.between(top, skip) & self.computes
        if shortcut & self.inside_attention:
            return None
        projects = shortcut & self.contracts or not shortcut & ~self.scales
        computes = self.flow.between(top, branch) & self.contracts
        return Residual(node.index, skip, branch, top, "projected") if projects and computes else None

    def _unmoved(self, index: int) -> list[int]:
        """The nodes that a value has passed unchanged, from `index` upwards."""
        chain = [index]
        while self.flow[index].op in MOVES:
            source = self.flow.source(index)
            if source is None:
                break
            index = source
            chain.append(index)
        return chain


def _operands(flow: Flow, node: FlowNode) -> tuple[int, int] | None:
    """The two operands of equal shape, batch included, None for any other addition."""
    pair = node.args[:2]
    if len(pair) != 2 or not all(isinstance(operand, Ref) for operand in pair):
        return None
    a, b = (flow[operand.index] for operand in pair)
    alike = a.shape is not None and a.shape == b.shape and a.batch_dim == b.batch_dim is not None
    if a.index == b.index or not alike or len(a.shape or ()) < 2:
        return None
    return a.index, b.index


def _dominators(flow: Flow) -> tuple[list[int | None], list[int]]:
    """Immediate dominator of every node (the last node that all ways to it pass), and its depth."""
    dominator: list[int | None] = [None] * len(flow.nodes)
    depth = [0] * len(flow.nodes)
    for node in flow.nodes:
        parents = [p for p in dict.fromkeys(node.parents) if flow[p].dependent]
        if not node.dependent or not parents:
            continue
        top: int | None = parents[0]
        for parent in parents[1:]:
            top = _meet(dominator, depth, top, parent) if top is not None else None
        dominator[node.index] = top
        depth[node.index] = depth[top] + 1 if top is not None else 0
    return dominator, depth


def _meet(dominator: list[int | None], depth: list[int], a: int | None, b: int | None) -> int | None:
    """Nearest common dominator of two nodes."""
    while a is not None and b is not None and a != b:
        if depth[a] >= depth[b]:
            a, b = dominator[a], b
        else:
            a, b = a, dominator[b]
    return a if a == b else None
