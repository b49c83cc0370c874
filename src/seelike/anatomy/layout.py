"""How the positions of an image lie in a tensor: prefix tokens and grid, channels first or last.

A graph alone does not say it. What is asked, in this order: the user (`LayoutHint`), the model's own attributes,
the operations (a convolution's output is channels first), and the shapes of the maps that the tokens are made from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypedDict

from torch import nn

from seelike.anatomy.channels import channel_dimensions
from seelike.anatomy.flow import Flow, Ref, argument
from seelike.anatomy.sites import Layout

MOST_PREFIX_TOKENS = 16


class LayoutHint(TypedDict, total=False):
    """What the user knows about the layout, overriding what is read."""

    prefix_tokens: int
    grid: tuple[int, int]
    channels_last: bool


@dataclass(frozen=True)
class ModelLayout:
    """What the model's own attributes say (timm: `num_prefix_tokens`, `patch_embed.grid_size`)."""

    prefix_tokens: int | None
    grid: tuple[int, int] | None


def model_layout(module: nn.Module) -> ModelLayout:
    """Read token layout off the attributes of the model; anything unusable counts as absent."""
    prefix: Any = getattr(module, "num_prefix_tokens", None)
    grid: Any = getattr(getattr(module, "patch_embed", None), "grid_size", None)
    return ModelLayout(
        prefix if isinstance(prefix, int) and not isinstance(prefix, bool) else None,
        (int(grid[0]), int(grid[1])) if isinstance(grid, tuple | list) and len(grid) == 2 and all(grid) else None,
    )


class LayoutReader:
    """Finds the layout of any node of a flow."""

    def __init__(self, flow: Flow, model: ModelLayout, hint: LayoutHint | None) -> None:
        self.flow = flow
        self.model = model
        self.hint: LayoutHint = hint or {}
        self.channels = channel_dimensions(flow)
        self.maps = self._map_masks()
        self.guessed: list[str] = []
        """Points whose grid is a guess."""

    def _map_masks(self) -> dict[tuple[int, int], int]:
        """For each grid, the bitmask of the maps that have it."""
        masks: dict[tuple[int, int], int] = {}
        for node in self.flow.nodes:
            grid = self._grid_of_map(node.index) if node.dependent and node.op != "placeholder" else None
            if grid is not None:
                masks[grid] = masks.get(grid, 0) | 1 << node.index
        return masks

    def _grid_of_map(self, index: int) -> tuple[int, int] | None:
        node, dim = self.flow[index], self.channels[index]
        if node.shape is None or len(node.shape) != 4 or node.batch_dim != 0 or node.batch_factor != 1:
            return None
        if dim == 1:
            return node.shape[2], node.shape[3]
        return (node.shape[1], node.shape[2]) if dim == 3 else None

    def read(self, index: int) -> Layout:
        """Layout of a node, of its shape with the batch first."""
        node = self.flow[index]
        shape = node.per_image or ()
        if node.batch_factor != 1:
            if len(shape) == 2:  # (images * tokens, channels), as a BatchNorm over tokens takes it
                return self._token_grid(index, shape[0])
            return Layout("other", source="windows in the batch dimension")
        if len(shape) == 1:
            return Layout("vector")
        if len(shape) == 3:
            return self._map(index, shape)
        if len(shape) == 2:
            return self._tokens(index, shape)
        return Layout("other")

    def _map(self, index: int, shape: tuple[int, ...]) -> Layout:
        dim, source = self.channels[index], "graph"
        if self.flow[index].batch_dim != 0:
            return Layout("other")
        if "channels_last" in self.hint:
            last, source = self.hint["channels_last"], "user"
        elif dim in (1, 3):
            last = dim == 3
        else:
            last, source = shape[0] == shape[1] != shape[2], "shapes"
            if shape[1] != shape[2] and not last:
                return Layout("other")
        grid = (shape[0], shape[1]) if last else (shape[1], shape[2])
        return Layout("map", grid=grid, channels_last=last, source=source)

    def _tokens(self, index: int, shape: tuple[int, ...]) -> Layout:
        tokens = shape[0]
        dim, batch = self.channels[index], self.flow[index].batch_dim
        if dim is not None and batch is not None and dim < 2 and dim != batch:
            return Layout("other", source="graph")  # channels before positions, as in token mixing
        return self._token_grid(index, tokens)

    def _token_grid(self, index: int, tokens: int) -> Layout:
        if tokens == 1:
            return Layout("tokens", prefix_tokens=1, source="shapes")
        if "grid" in self.hint or "prefix_tokens" in self.hint:
            hinted = self._hinted(tokens)
            if hinted is not None:
                return hinted
        grid, prefix = self.model.grid, self.model.prefix_tokens
        if grid is not None and prefix is not None and tokens == prefix + grid[0] * grid[1]:
            return Layout("tokens", prefix, grid, source="model")
        above = self._nearest_map(index, tokens)
        if above is not None:
            return Layout("tokens", tokens - above[0] * above[1], above, source="graph")
        return self._square(index, tokens)

    def _hinted(self, tokens: int) -> Layout | None:
        """What the user said, where it fits this number of tokens."""
        if "grid" in self.hint:
            height, width = self.hint["grid"]
            prefix = self.hint.get("prefix_tokens", tokens - height * width)
            fits = prefix >= 0 and prefix + height * width == tokens
            return Layout("tokens", prefix, (height, width), source="user") if fits else None
        prefix = self.hint.get("prefix_tokens", 0)
        side = math.isqrt(max(tokens - prefix, 0))
        return (
            Layout("tokens", prefix, (side, side), source="user") if side and side * side == tokens - prefix else None
        )

    def _nearest_map(self, index: int, tokens: int) -> tuple[int, int] | None:
        """Grid of the nearest map above that leaves 0 to 16 prefix tokens; an exact fit goes first.

        A map one position wide is the last choice: with one head, (n, tokens, 1, head_dim) looks like one.
        """
        above = self.flow.ancestors[index]
        best: tuple[bool, bool, int, tuple[int, int]] | None = None
        for grid, mask in self.maps.items():
            prefix = tokens - grid[0] * grid[1]
            met = mask & above
            if met and 0 <= prefix <= MOST_PREFIX_TOKENS and grid[0] * grid[1] > 1:
                candidate = (prefix == 0, min(grid) > 1, met.bit_length(), grid)
                best = candidate if best is None or candidate > best else best
        return best[-1] if best is not None else None

    def _square(self, index: int, tokens: int) -> Layout:
        """Guess a square grid with at most one prefix token, where no map says anything."""
        if not any(mask & self.flow.ancestors[index] for mask in self.maps.values()):
            for prefix in (0, 1):
                side = math.isqrt(tokens - prefix)
                if side > 1 and side * side + prefix == tokens:
                    self.guessed.append(self.flow[index].point)
                    return Layout("tokens", prefix, (side, side), source="square guess")
        return Layout("other", source="shapes")

    def prefix_is_last(self) -> bool:
        """Whether learned tokens are put after those of the image rather than before."""
        for node in self.flow.nodes:
            if node.op not in ("cat", "concat") or not node.dependent:
                continue
            parts = [self.flow[o.index] for o in node.args[0] if isinstance(o, Ref)]
            tokens = len(parts) >= 2 and len(parts[0].shape or ()) == 3 and argument(node, 1, "dim") == 1
            if tokens and parts[0].dependent and not parts[-1].dependent:
                return True
        return False


def positions(layout: Layout, per_image: tuple[int, ...]) -> int:
    """How many places of the image (or prefix tokens) a tensor of this layout has."""
    if layout.kind == "tokens":
        return per_image[0]
    if layout.kind == "map" and layout.grid is not None:
        return layout.grid[0] * layout.grid[1]
    return math.prod(per_image[:-1]) if len(per_image) >= 2 else 1
