"""The theoretical receptive field: which pixels can reach a place of a map at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from seelike.anatomy.anatomy import Anatomy
from seelike.anatomy.ops import ACTIVATIONS, ADDITIONS, named, operation
from seelike.anatomy.sites import Point

LOCAL = (
    ACTIVATIONS
    | ADDITIONS
    | named(
        "mul mul_ sub div div_ neg pow sqrt square clamp where batch_norm _native_batch_norm_legit_no_training "
        "dropout feature_dropout alpha_dropout contiguous clone alias detach lift_fresh_copy to _to_copy type_as "
        "cat float expand_as"
    )
)
"""Operations that leave every position where it is and look at no other, in maps (n, channels, height, width)."""


@dataclass(frozen=True)
class Extent:
    """What one position of a map sees along one side of the image.

    Position i sees the pixels ``start + i * jump ... start + i * jump + size - 1``, those outside the image left out.
    """

    size: int
    jump: int
    start: int

    def then(self, kernel: int, stride: int, padding: int, dilation: int) -> Extent:
        """The extent behind a convolution or pooling."""
        reach = (kernel - 1) * dilation
        return Extent(self.size + reach * self.jump, self.jump * stride, self.start - padding * self.jump)

    def joined(self, other: Extent) -> Extent | None:
        """The extent of a sum or concatenation of two maps, None when their grids differ."""
        if self.jump != other.jump:
            return None
        start = min(self.start, other.start)
        return Extent(max(self.start + self.size, other.start + other.size) - start, self.jump, start)


Extents = tuple[Extent, Extent]


MAP_NORMS = named("group_norm native_group_norm instance_norm")
"""Norms by statistics of the whole map: every position sees all, though by two numbers per group only."""


def theoretical_fields(anatomy: Anatomy, *, through_norms: bool = False) -> dict[Point, Extents]:
    """Theoretical field (along rows, along columns) of every point that convolutions and poolings alone lead to.

    Points behind anything that mixes all positions (attention, global pooling, group and layer norms of maps, linear
    layers over tokens) are left out: theirs is the whole image, or is not known.

    Args:
        anatomy: of the model.
        through_norms: overlook that group and instance norms mix positions, as the usual formula does.
    """
    local = LOCAL | MAP_NORMS if through_norms else LOCAL
    found: dict[str, Extents] = {}
    constants: set[str] = set()
    for node in anatomy.graph.nodes:
        if node.op == "placeholder":
            found[node.name] = (Extent(1, 1, 0), Extent(1, 1, 0))
        elif node.op == "get_attr":
            constants.add(node.name)
        elif node.op == "call_function":
            inputs = [n.name for n in node.all_input_nodes if n.name not in constants]
            if not inputs:
                constants.add(node.name)
            elif all(name in found for name in inputs):
                extents = _behind(anatomy, node, [found[name] for name in inputs], local)
                if extents is not None:
                    found[node.name] = extents
    return found


def _behind(anatomy: Anatomy, node: fx.Node, inputs: Sequence[Extents], local: frozenset[str]) -> Extents | None:
    name = operation(node)
    rule = RULES.get(name)
    if rule is not None:
        steps = rule(anatomy, node)
        return None if steps is None else (inputs[0][0].then(*steps[0]), inputs[0][1].then(*steps[1]))
    if name not in local:
        return None
    rows, columns = inputs[0]
    for other in inputs[1:]:
        joined = rows.joined(other[0]), columns.joined(other[1])
        if joined[0] is None or joined[1] is None:
            return None
        rows, columns = joined[0], joined[1]
    return rows, columns


Step = tuple[int, int, int, int]
"""Kernel, stride, padding, dilation."""


def _convolution(anatomy: Anatomy, node: fx.Node) -> tuple[Step, Step] | None:
    weight = node.args[1]
    stride, padding, dilation = (_pair(_argument(node, place, name, default)) for place, name, default in CONVOLUTION)
    while isinstance(weight, fx.Node) and weight.op != "get_attr" and weight.all_input_nodes:
        weight = weight.all_input_nodes[0]  # standardised weights: the parameter that they are made from
    if not isinstance(weight, fx.Node) or weight.op != "get_attr" or stride is None or dilation is None:
        return None
    kernel = tuple(anatomy.parameter(str(weight.target)).shape[-2:])
    if padding is None:
        return None
    return tuple(zip(kernel, stride, padding, dilation, strict=True))  # type: ignore[return-value]


CONVOLUTION = ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1))


def _pool(anatomy: Anatomy, node: fx.Node) -> tuple[Step, Step] | None:
    del anatomy
    kernel = _pair(_argument(node, 1, "kernel_size", None))
    if kernel is None:
        return None
    stride = _pair(_argument(node, 2, "stride", None)) or kernel
    padding = _pair(_argument(node, 3, "padding", 0)) or (0, 0)
    dilation = (_pair(_argument(node, 4, "dilation", 1)) or (1, 1)) if "max" in operation(node) else (1, 1)
    return tuple(zip(kernel, stride, padding, dilation, strict=True))  # type: ignore[return-value]


RULES: dict[str, Callable[[Anatomy, fx.Node], tuple[Step, Step] | None]] = {
    "conv2d": _convolution,
    "convolution": _convolution,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
}


def _argument(node: fx.Node, place: int, name: str, default: Any) -> Any:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    if isinstance(value, list | tuple) and value and all(isinstance(v, int) for v in value):
        return (value[0], value[-1])
    return None
