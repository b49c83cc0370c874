"""Which distinct tensors a model has, and every name that each of them bears.

A module's output is a node. Nodes that hold the same numbers in another shape share the node that computed them,
their origin; all names of one origin are names of one value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from seelike.anatomy.export import ModuleOutput
from seelike.anatomy.flow import Flow, FlowNode, Ref
from seelike.anatomy.functional import Rewritten
from seelike.anatomy.ops import ACTIVATIONS, LINEARS

MODEL_OUTPUT = "output"
"""Name of what the model itself returns, where no submodule returns it."""


@dataclass(frozen=True)
class Name:
    """One name of a tensor: a module path (with call and output number) or a made-up one (`made`)."""

    text: str
    path: str
    node: int
    made: bool = False


@dataclass
class Value:
    """A distinct tensor by the node that computes it."""

    origin: int
    names: list[Name] = field(default_factory=list)


def module_names(flow: Flow, outputs: Iterable[ModuleOutput], rewritten: Rewritten) -> tuple[list[Name], list[str]]:
    """Name of every module output that the graph holds, and notes on those that cannot be read."""
    names, notes = [], []
    for output in outputs:
        point = rewritten.replaced.get(output.node, output.node)
        index = flow.by_point.get(point)
        if index is None:
            continue
        text = output.path or MODEL_OUTPUT
        text += f"@{output.call}" if output.call else ""
        text += f":{output.output}" if output.output else ""
        if rewritten.is_stale(output.node, output.moment) and flow[index].dependent:
            notes.append(f"{text} is written to through a view before it is returned and cannot be read")
            continue
        names.append(Name(text, output.path, index))
    return names, notes


def group_by_value(flow: Flow, names: Iterable[Name]) -> dict[int, Value]:
    """Bring the names of one value together; values that no image flows into are left out."""
    values: dict[int, Value] = {}
    for name in names:
        node = flow[name.node]
        if not (node.dependent and node.floating):
            continue
        origin = flow.origin(name.node)
        if flow[origin].op == "placeholder":
            continue
        values.setdefault(origin, Value(origin)).names.append(name)
    return values


def uncertain(flow: Flow, values: dict[int, Value]) -> list[str]:
    """Drop names whose tensor has no batch dimension that can be found; one note for all of them."""
    lost = []
    for origin, value in list(values.items()):
        lost += [name.text for name in value.names if flow[name.node].per_image is None]
        value.names = [name for name in value.names if flow[name.node].per_image is not None]
        if not value.names:
            del values[origin]
    if not lost:
        return []
    return [f"The batch dimension of {listed(lost)} cannot be found; not among the layers"]


def listed(names: list[str], most: int = 5) -> str:
    """Put names in a row, cut short."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def name_activations(flow: Flow, values: dict[int, Value]) -> None:
    """Name activations that a forward pass calls as a function on the output of a linear layer."""
    for origin in [o for o in values if flow[o].op in LINEARS]:
        users = consumers(flow, origin)
        if len(users) == 1 and users[0].op in ACTIVATIONS and users[0].index not in values:
            node = users[0]
            if node.per_image is None:
                continue
            text = f"{node.path}.{node.op}" if node.path else node.op
            taken = {name.text for value in values.values() for name in value.names}
            text = text if text not in taken else f"{text}@{node.point}"
            values[node.index] = Value(node.index, [Name(text, node.path, node.index, made=True)])


def consumers(flow: Flow, origin: int) -> list[FlowNode]:
    """The nodes that compute with a value, in whatever shape they take it."""
    found: dict[int, FlowNode] = {}
    waiting = [origin]
    while waiting:
        for user in flow.users[waiting.pop()]:
            if not flow[user].dependent:
                continue
            if flow.relabels(user):
                waiting.append(user)
            else:
                found[user] = flow[user]
    return [found[index] for index in sorted(found)]


def embedding_with_position(flow: Flow, first_skip: int | None, first_contraction: int | None) -> int | None:
    """Origin of the tokens as they enter the first block, once position and class token have joined them.

    It is the last addition or concatenation with a learned tensor between the embedding and the first residual.
    """
    if first_skip is None or first_contraction is None:
        return None
    between = flow.between(first_contraction, first_skip)
    found = None
    for node in flow.nodes[first_contraction : first_skip + 1]:
        if between >> node.index & 1 and node.op in ("add", "cat", "concat") and _joins_learned(flow, node):
            found = node.index
    return found


def _joins_learned(flow: Flow, node: FlowNode) -> bool:
    """Whether one operand is a tensor of several dimensions that does not come from the image."""
    operands = node.args[0] if node.op in ("cat", "concat") else node.args[:2]
    nodes = [flow[o.index] for o in operands if isinstance(o, Ref)]
    return any(not n.dependent and n.shape is not None and len(n.shape) >= 2 for n in nodes)


def calls_of(names: Iterable[Name]) -> dict[str, list[Name]]:
    """First outputs of each module path, in the order of its calls."""
    found: dict[str, list[Name]] = defaultdict(list)
    for name in names:
        if ":" not in name.text:
            found[name.path].append(name)
    return found
