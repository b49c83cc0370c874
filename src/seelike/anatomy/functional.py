"""Rewrite in-place operations to functional ones, so that a tensor once tapped stays what it was.

An exported graph keeps the in-place operations of the model: ``relu_`` overwrites the output of the BatchNorm
before it, and who kept that output reads the ReLU's. Each ``op_(x)`` becomes ``op(x)`` with later uses of ``x``
redirected, unless other tensors share the memory of ``x`` and are used later: those few stay, and what they
overwrite is cloned when tapped. (`run_decompositions` would do it too, but bakes strides into the graph and
breaks the backward pass of four timm families.)
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

IN_PLACE = "seelike_in_place"
"""Where a rewritten node keeps the in-place operation that it was."""


@dataclass
class Rewritten:
    """What became of the in-place operations."""

    replaced: dict[str, str] = field(default_factory=dict)
    """Name of an in-place node -> name of the node that now holds its result."""
    overwritten: dict[str, int] = field(default_factory=dict)
    """Nodes whose memory is overwritten later after all -> position of the first operation that does it."""
    order: dict[str, int] = field(default_factory=dict)
    """Position of every node before the rewriting."""

    def is_stale(self, node: str, moment: str) -> bool:
        """Whether `node` had already been overwritten in place when `moment` was the last node of the graph."""
        written = self.overwritten.get(node)
        return written is not None and self.order.get(moment, -1) >= written


def make_functional(graph_module: fx.GraphModule) -> Rewritten:
    """Replace in-place operations in the graph; recompile is left to the caller."""
    graph = graph_module.graph
    order = {node: position for position, node in enumerate(graph.nodes)}
    result = Rewritten(order={node.name: position for node, position in order.items()})
    for node in list(graph.nodes):
        if not _writes_first_argument(node):
            continue
        twin = _functional_twin(node.target)
        target: Any = node.args[0]
        if twin is None or _is_aliased(target, node, order):
            for shared in _same_memory(target):
                result.overwritten.setdefault(shared.name, order[node])
            continue
        new = _replacement(graph, node, twin)
        order[new] = order[node]
        for user in list(target.users):
            if user is not new and order[user] > order[node]:
                user.replace_input_with(target, new)
        node.replace_all_uses_with(new)
        graph.erase_node(node)
        result.replaced[node.name] = new.name
    return result


def _writes_first_argument(node: fx.Node) -> bool:
    """Whether the node is an in-place operation on its first argument (``relu_``, ``add_``, ``copy_``)."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    schema = node.target._schema
    in_place = schema.is_mutable and schema.name.split("::")[1].endswith("_")
    return in_place and bool(node.args) and isinstance(node.args[0], fx.Node)


def _functional_twin(target: Any) -> torch._ops.OpOverload | None:
    """The operation that returns what `target` writes, None where torch has none."""
    namespace, name = target._schema.name.split("::")
    if name == "copy_":
        return torch.ops.aten.expand_as.default
    packet = getattr(getattr(torch.ops, namespace), name[:-1], None)
    return getattr(packet, target._overloadname, None) if packet is not None else None


def _replacement(graph: fx.Graph, node: fx.Node, twin: Any) -> fx.Node:
    """Insert the functional twin before `node`."""
    with graph.inserting_before(node):
        if twin is torch.ops.aten.expand_as.default:  # copy_(x, source): aten.copy has no derivative
            target: Any = node.args[0]
            source: Any = node.args[1]
            new = graph.call_function(twin, (source, target))
            wanted, given = target.meta.get("val"), source.meta.get("val")
            if wanted is not None and given is not None and wanted.dtype != given.dtype:
                new.meta = dict(node.meta)
                new = graph.call_function(torch.ops.aten.to.dtype, (new, wanted.dtype))
        else:
            new = graph.call_function(twin, node.args, dict(node.kwargs))
    new.meta = dict(node.meta)
    if twin is not torch.ops.aten.expand_as.default:
        new.meta[IN_PLACE] = node.target
    return new


def restore_in_place(graph: fx.Graph) -> None:
    """Let the operations that were in place in the model be so again, which spares memory and time.

    Right only where every tensor is done with when the next one is made: by receivers of taps that keep nothing.
    The rewriting has redirected all later uses, so nothing else reads what is overwritten.
    """
    for node in graph.nodes:
        if IN_PLACE in node.meta:
            node.target = node.meta[IN_PLACE]


def is_view(node: fx.Node) -> bool:
    """Whether the node's result may share memory with its first argument."""
    if node.op != "call_function":
        return False
    if node.target is operator.getitem:
        return True
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    if node.target._schema.name == "aten::dropout":
        return True  # in eval mode it hands its argument through
    return any(r.alias_info is not None and not r.alias_info.is_write for r in node.target._schema.returns)


def _source(node: fx.Node) -> fx.Node | None:
    """What a view is a view of."""
    first = node.args[0] if node.args else None
    return first if is_view(node) and isinstance(first, fx.Node) else None


def _same_memory(node: fx.Node) -> set[fx.Node]:
    """All nodes that may share memory with `node`: its base, and every view of that base."""
    base = node
    while (source := _source(base)) is not None:
        base = source
    found, waiting = {base}, [base]
    while waiting:
        parent = waiting.pop()
        new = [user for user in parent.users if is_view(user) and user.args[0] is parent and user not in found]
        found.update(new)
        waiting += new
    return found


def _is_aliased(target: Any, node: fx.Node, order: dict[fx.Node, int]) -> bool:
    """Whether another name for the memory of `target` is used after `node` writes to it."""
    now = order[node]
    for shared in _same_memory(target):
        if shared.op in ("get_attr", "placeholder"):
            return True
        if shared is target or order[shared] > now:
            continue
        if any(order[user] > now for user in shared.users):
            return True
    return False
