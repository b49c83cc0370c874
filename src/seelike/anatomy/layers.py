"""Make the layer sites of a model: one per distinct tensor, named, placed and described."""

from __future__ import annotations

from dataclasses import dataclass

from seelike.anatomy.attention import Attention
from seelike.anatomy.blocks import block_of
from seelike.anatomy.flow import Flow, Ref
from seelike.anatomy.layout import LayoutReader
from seelike.anatomy.ops import (
    ACTIVATIONS,
    ADDITIONS,
    CONVOLUTIONS,
    FUSED_ATTENTION,
    LINEARS,
    NORMS,
    POOLS,
    SOFTMAXES,
)
from seelike.anatomy.sites import LayerSite
from seelike.anatomy.values import Name, Value

_KINDS = (
    (NORMS, "norm"),
    (CONVOLUTIONS, "conv"),
    (LINEARS, "linear"),
    (FUSED_ATTENTION | SOFTMAXES, "attention"),
    (ACTIVATIONS, "activation"),
    (POOLS | frozenset(["mean"]), "pool"),
    (ADDITIONS, "sum"),
)


@dataclass(frozen=True)
class Marks:
    """What has been found out about values, by the origin of each."""

    sublayers: frozenset[int]
    block_outputs: dict[int, str]
    """Origin -> path of the block that returns it."""
    embedding: int | None
    first_projection: int | None
    attentions: list[Attention]


def make_layers(
    flow: Flow,
    values: dict[int, Value],
    reader: LayoutReader,
    marks: Marks,
    blocks: tuple[str, ...],
    module_types: dict[str, str],
) -> tuple[LayerSite, ...]:
    """Layer sites in execution order; `values` hold only names that can be read."""
    attended = _attended(flow, marks.attentions)
    place = {path: index for index, path in enumerate(blocks)}
    known = frozenset(blocks)
    chosen = [(_point(flow, value, marks), value) for value in values.values()]
    chosen.sort(key=lambda pair: pair[0])
    sites = []
    for index, (node_index, value) in enumerate(chosen):
        node = flow[node_index]
        best = best_name(value, marks.block_outputs.get(value.origin))
        aliases = dict.fromkeys(name.text for name in value.names if name.text != best.text)
        block = marks.block_outputs.get(value.origin) or block_of(flow[value.origin].path, known)
        sites.append(
            LayerSite(
                name=best.text,
                aliases=tuple(aliases),
                point=node.point,
                index=index,
                relative_depth=index / max(len(chosen) - 1, 1),
                block=block,
                block_index=place.get(block) if block is not None else None,
                kind=_kind(flow, value.origin, attended, marks),
                module_type=flow[value.origin].op if best.made else module_types.get(best.path, flow[value.origin].op),
                shape=node.per_image or (),
                layout=reader.read(node_index),
                batch_dim=node.batch_dim or 0,
                batch_factor=node.batch_factor,
                is_sublayer=value.origin in marks.sublayers,
                is_block_output=value.origin in marks.block_outputs,
            )
        )
    return tuple(sites)


def best_name(value: Value, block: str | None) -> Name:
    """The name to show: the block that returns the tensor, else the outermost module, the first to run of several."""

    def rank(item: tuple[int, Name]) -> tuple[bool, bool, bool, int, int]:
        order, name = item
        whole = name.path == "" and not name.made
        return name.text.split("@")[0] != block, whole, name.made, name.text.count("."), order

    return min(enumerate(value.names), key=rank)[1]


def _point(flow: Flow, value: Value, marks: Marks) -> int:
    """Node to read a value at: where images are not cut into windows, under its best name if there is a choice."""
    least = min(flow[name.node].batch_factor for name in value.names)
    whole = [name for name in value.names if flow[name.node].batch_factor == least]
    return best_name(Value(value.origin, whole), marks.block_outputs.get(value.origin)).node


def _kind(flow: Flow, origin: int, attended: frozenset[int], marks: Marks) -> str:
    if origin in (marks.embedding, marks.first_projection):
        return "embed"
    if origin in attended:
        return "attention"
    return next((kind for operations, kind in _KINDS if flow[origin].op in operations), "other")


def _attended(flow: Flow, attentions: list[Attention]) -> frozenset[int]:
    """Origins of attentions' outputs, before and after their projection."""
    found = set()
    for attention in attentions:
        found.add(attention.output)
        waiting = [attention.output]
        while waiting:
            for user in flow.users[waiting.pop()]:
                if flow[user].op in LINEARS | CONVOLUTIONS:
                    found.add(user)
                elif flow.relabels(user):
                    waiting.append(user)
    return frozenset(found)


def patch_projection(flow: Flow) -> int | None:
    """The first convolution or linear layer of the image, if it cuts the image into patches (stride = kernel > 1)."""
    for node in flow.nodes:
        if node.dependent and node.op in CONVOLUTIONS:
            weight, strides = node.args[1], node.args[3] if len(node.args) > 3 else [1]
            shape = flow[weight.index].shape if isinstance(weight, Ref) else None
            patches = shape is not None and list(shape[2:]) == list(strides) and max(strides) > 1
            return node.index if patches else None
        if node.dependent and node.op in LINEARS:
            return node.index if node.shape is not None and len(node.shape) == 3 else None
    return None
