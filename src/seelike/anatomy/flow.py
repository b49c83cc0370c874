"""The graph of a model as plain data: what flows from where, in which shape, with which numbers of images.

All questions of the form 'is a above b', 'what lies between' are answered with one bitmask per node, kept in
Python integers: thousands of nodes cost microseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from seelike.anatomy.ops import RELABEL, operation


@dataclass(frozen=True)
class Ref:
    """An argument that is another node, by its index."""

    index: int


@dataclass
class FlowNode:
    """One operation; `shape` and `numel` are those of one image (batch 1)."""

    index: int
    point: str
    op: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    parents: tuple[int, ...]
    path: str
    """Innermost module that runs the operation."""
    dependent: bool
    """Whether the value depends on the model's input (its data, not only its batch size)."""
    shape: tuple[int, ...] | None = None
    batch_dim: int | None = None
    """Dimension that grows with the number of images; None if there is none or more than one."""
    batch_factor: int = 0
    """Rows along `batch_dim` that one image has."""
    numel: int | None = None
    dtype: torch.dtype | None = None
    contiguous: bool = True
    growing: int = 0
    """Dimensions that grow with the number of images."""

    @property
    def per_image(self) -> tuple[int, ...] | None:
        """Shape with the batch left out: ``(factor, ...)`` where one image has several rows, else ``(...)``."""
        if self.shape is None or self.batch_dim is None:
            return None
        rest = self.shape[: self.batch_dim] + self.shape[self.batch_dim + 1 :]
        return rest if self.batch_factor == 1 else (self.batch_factor, *rest)

    @property
    def floating(self) -> bool:
        """Whether the values are floating point numbers."""
        return self.dtype is not None and self.dtype.is_floating_point


@dataclass
class Flow:
    """The nodes in execution order, and who is above whom."""

    nodes: list[FlowNode]
    ancestors: list[int] = field(default_factory=list)
    """Bitmask of the input-dependent nodes that a node is made from, itself included."""
    descendants: list[int] = field(default_factory=list)
    users: list[list[int]] = field(default_factory=list)
    by_point: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_point = {node.point: node.index for node in self.nodes}
        self.users = [[] for _ in self.nodes]
        self.ancestors = [0] * len(self.nodes)
        self.descendants = [0] * len(self.nodes)
        for node in self.nodes:
            mask = 1 << node.index
            for parent in set(node.parents):
                self.users[parent].append(node.index)
                if self.nodes[parent].dependent:
                    mask |= self.ancestors[parent]
            self.ancestors[node.index] = mask
        for node in reversed(self.nodes):
            mask = 1 << node.index
            for user in self.users[node.index]:
                mask |= self.descendants[user]
            self.descendants[node.index] = mask

    def __getitem__(self, index: int) -> FlowNode:
        return self.nodes[index]

    def above(self, upper: int, lower: int) -> bool:
        """Whether `lower` is made from `upper` (or is it)."""
        return bool(self.ancestors[lower] >> upper & 1)

    def between(self, upper: int, lower: int) -> int:
        """Bitmask of what lies on the ways from `upper` to `lower`: without `upper`, with `lower`."""
        return self.ancestors[lower] & self.descendants[upper] & ~(1 << upper)

    def mask(self, operations: frozenset[str]) -> int:
        """Bitmask of the input-dependent nodes that do one of these operations."""
        return sum(1 << n.index for n in self.nodes if n.dependent and n.op in operations)

    def source(self, index: int) -> int | None:
        """Take the only input-dependent parent of a node, None if there are several or none."""
        found = {p for p in self.nodes[index].parents if self.nodes[p].dependent}
        return found.pop() if len(found) == 1 else None

    def origin(self, index: int) -> int:
        """Walk up through operations that only relabel values, to the one that computes them."""
        while self.relabels(index):
            parent = self.source(index)
            if parent is None:
                break
            index = parent
        return index

    def relabels(self, index: int) -> bool:
        """Whether a node holds the same numbers as its parent, seen in another shape."""
        node = self.nodes[index]
        if node.op not in RELABEL:
            return False
        parent = self.source(index)
        if parent is None:
            return False
        above = self.nodes[parent]
        same = node.numel is not None and node.numel == above.numel and node.dtype == above.dtype
        if same and node.op in _SAME_SHAPE_ONLY:
            same = node.shape == above.shape and not _cut_elsewhere(node)
        if same and node.op == "roll":
            dims = argument(node, 2, "dims") or (0,)
            same = node.batch_dim is not None and node.batch_dim not in dims and min(dims) >= 0
        if same and node.op in _DROPOUTS:
            same = argument(node, 2, "train") is False
        return same


_SAME_SHAPE_ONLY = frozenset(["slice", "narrow", "pad", "constant_pad_nd", "expand", "expand_as"])
_DROPOUTS = frozenset(["dropout", "feature_dropout", "alpha_dropout"])


def _cut_elsewhere(node: FlowNode) -> bool:
    """Whether a pad that keeps the shape moves values (negative on one side, positive on the other)."""
    return node.op in ("pad", "constant_pad_nd") and any(node.args[1])


def argument(node: FlowNode, position: int, name: str) -> Any:
    """One argument of an operation, given by place or by name."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def bits(mask: int) -> list[int]:
    """Positions of the ones in a bitmask, ascending."""
    found = []
    while mask:
        lowest = mask & -mask
        found.append(lowest.bit_length() - 1)
        mask ^= lowest
    return found


def read_flow(graph_module: fx.GraphModule) -> Flow:
    """Read the plain data off an exported graph."""
    index: dict[fx.Node, int] = {}
    nodes: list[FlowNode] = []
    for node in graph_module.graph.nodes:
        if node.op == "output":
            continue
        parents = tuple(index[a] for a in node.all_input_nodes)
        value = node.meta.get("val")
        carries = isinstance(value, torch.Tensor | list | tuple)
        dependent = node.op == "placeholder" or (carries and any(nodes[p].dependent for p in parents))
        refer: Any = lambda other: Ref(index[other])  # noqa: E731 - torch types it as if arguments stayed nodes
        args: Any = fx.node.map_arg(node.args, refer)
        kwargs: Any = fx.node.map_arg(node.kwargs, refer)
        row = FlowNode(len(nodes), node.name, operation(node), args, dict(kwargs), parents, _path(node), dependent)
        if isinstance(value, torch.Tensor):
            _measure(row, value)
        index[node] = row.index
        nodes.append(row)
    return Flow(nodes)


def _path(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values() if not path.startswith("_empty_nn_module_stack")]
    return paths[-1] if paths else ""


def _measure(row: FlowNode, value: torch.Tensor) -> None:
    """Find shape at batch 1, batch dimension and factor from the symbolic shape."""
    row.dtype = value.dtype
    sizes = [_coefficient(size) for size in value.shape]
    if any(size is None for size in sizes):
        return
    known = [size for size in sizes if size is not None]
    growing = [dim for dim, (_, degree) in enumerate(known) if degree]
    row.shape = tuple(size for size, _ in known)
    row.numel = math.prod(row.shape)
    row.growing = len(growing)
    row.contiguous = _is_contiguous(value)
    if len(growing) == 1:
        row.batch_dim = growing[0]
        row.batch_factor = row.shape[growing[0]]


def _coefficient(size: int | torch.SymInt) -> tuple[int, int] | None:
    """Read ``size`` as (c, 0) for the number c, or (c, 1) for c times the batch size; None for anything else."""
    if not isinstance(size, torch.SymInt):
        return int(size), 0
    factor, rest = size.node.expr.as_coeff_Mul()
    if rest.is_Symbol and factor.is_Integer and str(rest).startswith("s"):
        return int(factor), 1
    return (int(size.node.expr), 0) if size.node.expr.is_Integer else None


def _is_contiguous(value: torch.Tensor) -> bool:
    try:
        return value.is_contiguous()
    except Exception:  # strides of a symbolic tensor may be undecidable
        return False
