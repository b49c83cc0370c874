"""Ways by which the tokens of a ViT know where they are: none at all, sines, or a convolution (CPVT).

Sources: paper.md section 5.4; Chu et al. 2021, "Conditional Positional Encodings for Vision Transformers".
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from seelike.errors import SeelikeError, close_matches

Position = Literal["learned", "none", "sincos", "peg"]


def check_position(pos: Any, width: int, name: str) -> None:
    """Raise `SeelikeError` unless `pos` is a position encoding that tokens of this width can have."""
    if pos not in get_args(Position):
        near = close_matches(str(pos), get_args(Position))
        raise SeelikeError(f"{name}: pos={pos!r} is none of {', '.join(get_args(Position))}{near}")
    if pos == "sincos" and width % 4:
        raise SeelikeError(f"{name}: pos=sincos needs an embed_dim that 4 divides, not {width}")


class PositionEncodingGenerator(nn.Module):
    """PEG: a depth-wise 3 x 3 convolution over the grid of patches, added to them; prefix tokens pass by.

    The zeros around the grid are what tells a patch its absolute place.
    """

    def __init__(self, width: int, kernel: int = 3) -> None:
        super().__init__()
        self.proj = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map (n, prefix + height * width, channels) to the same shape; `grid` is (height, width)."""
        prefix = x.shape[1] - grid[0] * grid[1]
        patches = x[:, prefix:] if prefix else x
        maps = patches.transpose(1, 2).reshape(x.shape[0], x.shape[2], *grid)
        patches = patches + self.proj(maps).flatten(2).transpose(1, 2)
        return torch.cat([x[:, :prefix], patches], dim=1) if prefix else patches


class PositionedViT(VisionTransformer):  # type: ignore[misc]  # timm is untyped
    """A ViT without learned positions, for images of any size that its patches tile.

    * ``none``: the patches are a set. * ``sincos``: fixed sines and cosines of row and column (MoCo v3) are added to
      the patches, not to the class token. * ``peg``: `PositionEncodingGenerator` behind the first block.
    """

    def __init__(self, pos: Position, **arguments: Any) -> None:
        super().__init__(**arguments | {"dynamic_img_size": True, "pos_embed": "none"})
        self.pos = pos
        self.peg = PositionEncodingGenerator(self.embed_dim) if pos == "peg" else None

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Make tokens (n, prefix + height * width, width) of patches (n, height, width, width)."""
        if self.pos == "sincos":
            grid = list(x.shape[1:3])
            x = x + build_sincos2d_pos_embed(grid, self.embed_dim, device=x.device, dtype=x.dtype).view(x.shape[1:])
        tokens: Tensor = super()._pos_embed(x)
        return tokens

    def forward_features(self, x: Tensor, **mask: Any) -> Tensor:
        """Return the tokens (n, prefix + patches, width) behind the last norm."""
        x = self.patch_embed(x)
        grid = (x.shape[1], x.shape[2])
        x = self.norm_pre(self.patch_drop(self._pos_embed(x)))
        for place, block in enumerate(self.blocks):
            x = block(x, **mask)
            if place == 0 and self.peg is not None:
                x = self.peg(x, grid)
        tokens: Tensor = self.norm(x)
        return tokens

    def forward_intermediates(self, *inputs: Any, **options: Any) -> Any:
        """Do as timm does. Raises `SeelikeError` with PEG, which timm would leave out."""
        if self.peg is not None:
            raise SeelikeError("timm's forward_intermediates knows nothing of pos=peg; put hooks on the blocks instead")
        return super().forward_intermediates(*inputs, **options)
