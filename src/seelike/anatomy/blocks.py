"""Group a model into blocks, and give its residual sums their names."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from seelike.anatomy.attention import Attention
from seelike.anatomy.flow import Flow, Ref, bits
from seelike.anatomy.ops import CONVOLUTIONS, LINEARS, PRODUCTS
from seelike.anatomy.residuals import Residual

BranchKind = Literal["attention", "mlp", "conv", "other"]


def find_blocks(flow: Flow, residuals: list[Residual], outputs: dict[str, int]) -> tuple[str, ...]:
    """Paths of the modules that own a residual sum, innermost and in execution order.

    A module inside another owner that returns the same tensor is no block of its own (transformers' ``output``
    modules add the second skip of a layer). Sums of the model's own forward pass belong to no block.
    `outputs` gives the origin of the tensor that each module path returns.
    """
    owners = list(dict.fromkeys(flow[residual.sum].path for residual in residuals))
    known = set(owners)
    blocks = []
    for owner in owners:
        outer = [parent for parent in _parents(owner) if parent in known]
        absorbed = owner in outputs and any(outputs.get(parent) == outputs[owner] for parent in outer)
        if owner and not absorbed:
            blocks.append(owner)
    return tuple(blocks)


def _parents(path: str) -> list[str]:
    """Paths of the modules around a module, nearest first, the model itself left out."""
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]


def block_of(path: str, blocks: frozenset[str]) -> str | None:
    """The innermost block that a module path lies in."""
    return next((p for p in [path, *_parents(path)] if p in blocks), None) if path else None


def branch_kind(flow: Flow, residual: Residual, attentions: list[Attention]) -> BranchKind:
    """What the branch of a residual sum does: attention, else convolution over positions, else an MLP."""
    branch = flow.between(residual.top, residual.branch)
    if any(branch >> attention.output & 1 for attention in attentions):
        return "attention"
    operations = [flow[index] for index in bits(branch)]
    convolutions = [node for node in operations if node.op in CONVOLUTIONS]
    if any(_kernel(flow, node.index) > 1 for node in convolutions):
        return "conv"
    if convolutions or any(node.op in LINEARS or node.op in PRODUCTS for node in operations):
        return "mlp"
    return "other"


def _kernel(flow: Flow, convolution: int) -> int:
    """Positions that a convolution looks at."""
    weight = flow[convolution].args[1]
    shape = flow[weight.index].shape if isinstance(weight, Ref) else None
    size = 1
    for extent in (shape or ())[2:]:
        size *= extent
    return size


def residual_names(
    flow: Flow, residuals: list[Residual], blocks: tuple[str, ...], kinds: list[BranchKind]
) -> list[str]:
    """Names like ``blocks.3.+attention``; a second sum of one kind in a block is ``blocks.3.+conv@1``."""
    known = frozenset(blocks)
    seen: Counter[str] = Counter()
    names = []
    for residual, kind in zip(residuals, kinds, strict=True):
        block = block_of(flow[residual.sum].path, known)
        name = f"{block}.+{kind}" if block else f"+{kind}"
        names.append(f"{name}@{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names
