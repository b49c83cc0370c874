"""Which dimension of a tensor holds the channels.

Operations give it away: a convolution and a BatchNorm have channels in dimension 1, a linear map and a LayerNorm over
one dimension in the last. From there it travels along permutations and elementwise operations, first downwards, then
upwards.
"""

from __future__ import annotations

from seelike.anatomy.flow import Flow, FlowNode, Ref, argument
from seelike.anatomy.ops import CONVOLUTIONS, ELEMENTWISE, LINEARS, NORMS, POOLS, named

_SECOND = CONVOLUTIONS | POOLS | (NORMS - {"layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm"})
_LAST = LINEARS
_OVER_LAST = frozenset(["layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm"])
_IN_PLACE = ELEMENTWISE | named(
    "dropout feature_dropout contiguous clone alias detach to _to_copy roll pad constant_pad_nd cat slice flip"
)


def channel_dimensions(flow: Flow) -> list[int | None]:
    """Channel dimension of every node, None where nothing tells it."""
    found: list[int | None] = [_evident(node) for node in flow.nodes]
    for node in flow.nodes:
        if found[node.index] is None and node.dependent:
            found[node.index] = _from_parents(flow, node, found)
    for node in reversed(flow.nodes):
        for parent in node.parents:
            if found[parent] is None and flow[parent].dependent:
                found[parent] = _to_parent(flow, node, parent, found)
    return found


def _evident(node: FlowNode) -> int | None:
    """Channel dimension of a node's output by its own operation."""
    if node.shape is None or not node.dependent:
        return None
    if node.op in _SECOND and len(node.shape) >= 2:
        return 1
    over_last = node.op in _OVER_LAST and len(argument(node, 1, "normalized_shape") or ()) == 1
    return len(node.shape) - 1 if node.op in _LAST or over_last else None


def _from_parents(flow: Flow, node: FlowNode, found: list[int | None]) -> int | None:
    for parent in node.parents:
        dim, above = found[parent], flow[parent]
        if dim is None or above.shape is None or node.shape is None:
            continue
        if node.op in _IN_PLACE and len(above.shape) == len(node.shape):
            return dim
        order = _permutation(node, len(above.shape))
        if order is not None:
            return order.index(dim)
        if node.op in ("view", "reshape", "flatten", "_unsafe_view", "unflatten"):
            return _through_view(above.shape, node.shape, dim)
    return None


def _to_parent(flow: Flow, node: FlowNode, parent: int, found: list[int | None]) -> int | None:
    """Channel dimension of a parent by what `node` does with it."""
    above = flow[parent]
    if above.shape is None or node.shape is None:
        return None
    first = bool(node.args) and node.args[0] == Ref(parent)
    if first and (node.op in _SECOND or node.op in _LAST or node.op in _OVER_LAST):
        own = _evident(node)
        return (1 if node.op in _SECOND else len(above.shape) - 1) if own is not None else None
    dim = found[node.index]
    if dim is None:
        return None
    if node.op in _IN_PLACE and len(above.shape) == len(node.shape):
        return dim
    order = _permutation(node, len(above.shape))
    if order is not None:
        return order[dim]
    if node.op in ("view", "reshape", "flatten", "_unsafe_view", "unflatten"):
        return _through_view(node.shape, above.shape, dim)
    return None


def _permutation(node: FlowNode, dims: int) -> list[int] | None:
    """For each dimension of the output, the dimension of the input that it was."""
    if node.op == "permute":
        return [dim % dims for dim in node.args[1]]
    if node.op in ("transpose", "swapaxes"):
        order = list(range(dims))
        a, b = (dim % dims for dim in node.args[1:3])
        order[a], order[b] = order[b], order[a]
        return order
    return None


def _through_view(before: tuple[int, ...], after: tuple[int, ...], dim: int) -> int | None:
    """Follow a dimension through a reshape: the last stays last, the second stays second, if its size stays."""
    if dim == len(before) - 1 and after and after[-1] == before[-1]:
        return len(after) - 1
    if dim == 1 and len(after) > 1 and len(before) > 1 and after[:2] == before[:2]:
        return 1
    return None
