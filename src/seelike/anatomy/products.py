"""How many multiply-adds an operation takes for one image, by the shapes that go in and come out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import fx

from seelike.anatomy.ops import CONVOLUTIONS, FUSED_ATTENTION, LINEARS, PRODUCTS, operation


def shape_of(node: Any) -> tuple[int, ...]:
    """Shape of a node's output for a batch of one."""
    return tuple(_size(size) for size in node.meta["val"].shape)


def _size(size: Any) -> int:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))


def kernel_of(node: fx.Node) -> tuple[int, ...]:
    """Extent of a convolution's kernel in space."""
    return shape_of(node.args[1])[2:]


def _convolution(node: fx.Node) -> int:
    weight, transposed = shape_of(node.args[1]), "transpose" in operation(node) or _transposed(node)
    positions = math.prod(shape_of(node.args[0] if transposed else node))
    return positions * math.prod(weight[1:])


def _transposed(node: fx.Node) -> bool:
    return operation(node) in ("convolution", "_convolution") and bool(node.args[6])


def _linear(node: fx.Node) -> int:
    return math.prod(shape_of(node)) * shape_of(node.args[1])[-1]


def _product(first: int) -> Callable[[fx.Node], int]:
    """The product of arguments `first` and the next."""
    return lambda node: math.prod(shape_of(node)) * shape_of(node.args[first])[-1]


def _einsum(node: fx.Node) -> int:
    terms, operands = str(node.args[0]).replace(" ", "").partition("->")[0].split(","), node.args[1]
    assert isinstance(operands, list | tuple)
    sizes: dict[str, int] = {}
    unnamed: dict[int, int] = {}  # dimensions of an ellipsis, counted from its end
    for term, operand in zip(terms, operands, strict=True):
        shape = list(shape_of(operand))
        before, dots, after = term.partition("...")
        named_sizes = [*zip(before, shape, strict=False)]
        if dots:
            named_sizes += [*zip(after, shape[len(shape) - len(after) :], strict=True)]
            middle = shape[len(before) : len(shape) - len(after)]
            for place, size in enumerate(reversed(middle)):
                unnamed[place] = max(unnamed.get(place, 1), size)
        for letter, size in named_sizes:
            sizes[letter] = max(sizes.get(letter, 1), size)
    return math.prod(sizes.values()) * math.prod(unnamed.values())


def _attention(node: fx.Node) -> int:
    query, key, value = (shape_of(each) for each in node.args[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


RULES: dict[str, Callable[[fx.Node], int]] = {
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys(LINEARS - {"addmm"}, _linear),
    **dict.fromkeys(FUSED_ATTENTION, _attention),
    **dict.fromkeys(PRODUCTS - {"einsum", "baddbmm"}, _product(0)),
    "addmm": _product(1),
    "baddbmm": _product(1),
    "einsum": _einsum,
}
"""Operation -> its multiply-adds for one image."""
