"""The words of an anatomy: sites, their layout, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Point = str
"""The name of one tensor in the graph of a model: the name of the node that makes it."""


@dataclass(frozen=True)
class Layout:
    """How the positions of an image lie in a tensor of shape (n, ...).

    ``tokens``: (n, prefix_tokens + height * width, channels), prefix tokens (CLS, registers) first.
    ``map``: (n, channels, height, width), or (n, height, width, channels) when `channels_last`.
    ``vector``: (n, features), no positions.
    ``other``: anything else; only flattening makes sense.

    `source` says where the layout was read: the model's own attributes, the graph, shapes, or the user.
    """

    kind: Literal["tokens", "map", "vector", "other"]
    prefix_tokens: int = 0
    grid: tuple[int, int] | None = None
    channels_last: bool = False
    source: str = "shapes"


@dataclass(frozen=True)
class LayerSite:
    """One distinct tensor of the model, with every module name that it bears.

    `name` is the best name (the outermost module whose output it is, or ``<block>.+attention`` and the like for
    a residual sum that no module returns); `aliases` are the other module names. Repeated calls of one
    module are ``path@1``, ``path@2``. `shape` is that of one example, batch left out (of `batch_first`).
    """

    name: str
    aliases: tuple[str, ...]
    point: Point
    index: int
    """Place among the layers in execution order, from 0."""
    relative_depth: float
    """`index` over the last layer's index: 0 at the input, 1 at the output."""
    block: str | None
    """Module path of the block that the tensor belongs to, None outside all blocks."""
    block_index: int | None
    kind: str
    """What makes the tensor: norm, conv, linear, attention, activation, pool, sum, embed, or other."""
    module_type: str
    """Class name of the module that bears `name`, or the operation's name."""
    shape: tuple[int, ...]
    layout: Layout
    batch_dim: int = 0
    batch_factor: int = 1
    """Rows of the tensor that one image has along `batch_dim` (windows, for Swin), images outermost."""
    is_sublayer: bool = False
    """Whether the paper's choice of layers takes it (docs/architecture.md)."""
    is_block_output: bool = False

    def batch_first(self, tensor: torch.Tensor) -> torch.Tensor:
        """View the raw tensor of this site as (n, *shape), images first."""
        return _batch_first(tensor, self.batch_dim, self.batch_factor, self.shape)


@dataclass(frozen=True)
class ResidualSite:
    """A residual sum ``skip + branch``.

    ``identity``: what arrives by the skip is an ancestor of the branch; ``projected``: a short projection
    (ResNet's first unit of a stage) lies on the skip.
    """

    name: str
    block: str
    kind: Literal["identity", "projected"]
    branch_kind: Literal["attention", "mlp", "conv", "other"]
    skip: Point
    branch: Point
    sum: Point
    shape: tuple[int, ...]
    layout: Layout
    batch_dim: int = 0
    batch_factor: int = 1

    def batch_first(self, tensor: torch.Tensor) -> torch.Tensor:
        """View the raw tensor of skip, branch or sum as (n, *shape), images first."""
        return _batch_first(tensor, self.batch_dim, self.batch_factor, self.shape)


@dataclass(frozen=True)
class AttentionSite:
    """One attention over tokens: queries, keys, values and the product with the values.

    `probabilities` is None when a fused kernel hides them; they are then recomputed from queries and keys as
    ``softmax(scale * q k^T + mask)``. Shapes are of the raw graph tensors, (batch, heads, tokens, head_dim)
    for fused attention; windows sit in the batch dimension (`batch_factor`).
    """

    name: str
    block: str | None
    query: Point
    key: Point
    value: Point
    output: Point
    probabilities: Point | None
    mask: Point | None
    scale: float | None
    heads: int
    head_dim: int
    query_tokens: int
    key_tokens: int
    fused: bool
    batch_factor: int = 1
    causal: bool = False
    """Whether a query sees only keys up to its own place (the fused kernel's `is_causal`)."""
    softmax: Point | None = None
    """What the softmax puts out, where a norm on the way to the values makes signed weights of it (Re-attention)."""


def _batch_first(tensor: torch.Tensor, batch_dim: int, batch_factor: int, shape: tuple[int, ...]) -> torch.Tensor:
    tensor = tensor.movedim(batch_dim, 0) if batch_dim else tensor
    return tensor if batch_factor == 1 else tensor.reshape(tensor.shape[0] // batch_factor, *shape)
