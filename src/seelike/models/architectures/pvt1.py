"""Pyramid vision transformer v1: four stages of tokens, and keys and values from a coarser grid.

Every stage is a patch embedding (a convolution with kernel = stride, then LayerNorm), a learned position embedding and
transformer blocks; the class token enters in the last stage. The attention is timm's: `timm.models.pvt_v2.Attention`
reduces keys and values by a convolution with kernel = stride = R and LayerNorm, as v1 does. v2
(`seelike.models.architectures.pvt`) has overlapping patches and depth-wise convolutions in place of positions.

At 32 pixels the stages have 16, 8, 4 and 2 tokens a side (`patch_size` 2) and, with reductions of 4, 2, 1 and 1, the
first three 4 x 4 keys. With ``patch_size=4,sr_ratios=8x4x2x1,img_size=224`` they are those of the paper: 56, 28, 14, 7
and always 49 keys (in the last stage the class token besides). All heads of a size are equally wide, and the first
stage has two. Sources: paper.md section 5.3; Wang et al. 2021, "Pyramid Vision Transformer".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, LayerNorm, Mlp, PatchEmbed, calculate_drop_path_rates, trunc_normal_
from timm.models import register_model
from timm.models.pvt_v2 import Attention
from torch import Tensor, nn

from seelike.errors import SeelikeError
from seelike.models.architectures.registry import check_heads, labelled, options
from seelike.models.architectures.registry import default_cfgs as _table

__all__ = ["PyramidVisionTransformer", "seelike_pvt1_lab", "seelike_pvt1_small"]

LAB = {"embed_dims": (32, 48, 80, 96), "num_heads": (2, 3, 5, 6), "mlp_ratios": (3, 3, 3, 2)}
SMALL = {"embed_dims": (32, 64, 160, 256), "num_heads": (2, 4, 10, 16), "mlp_ratios": (8, 8, 4, 4)}
STAGES = {"num_classes": 10, "img_size": 32, "patch_size": 2, "sr_ratios": (4, 2, 1, 1), "depths": (2, 2, 2, 2)}

default_cfgs = _table(["seelike_pvt1_lab", "seelike_pvt1_small"], "head", "stages.0.patch_embed.proj")


class Block(nn.Module):
    """A pre-norm transformer block with spatial-reduction attention."""

    def __init__(self, width: int, heads: int, reduction: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, num_heads=heads, sr_ratio=reduction)
        self.norm2 = LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map (n, tokens, width) to the same shape; keys are made from the `grid` (height, width) of tokens."""
        x = x + self.drop_path(self.attn(self.norm1(x), grid))
        mapped: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return mapped


class Stage(nn.Module):
    """Patches of the map that comes in, their positions, a class token or none, and the blocks."""

    def __init__(self, embed: PatchEmbed, blocks: Sequence[Block], width: int, class_token: bool) -> None:
        super().__init__()
        self.patch_embed = embed
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if class_token else None
        self.pos_embed = nn.Parameter(torch.zeros(1, embed.num_patches + class_token, width))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, maps: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Map (n, channels, height, width) to tokens (n, prefix + patches, width) and the grid of the patches."""
        maps = self.patch_embed(maps)
        grid = (maps.shape[1], maps.shape[2])
        x = maps.flatten(1, 2)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self._positions(grid)
        for block in self.blocks:
            x = block(x, grid)
        return x, grid

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Resize the position embedding to another grid, bilinearly."""
        own: tuple[int, int] = self.patch_embed.grid_size
        if grid == own:
            return self.pos_embed
        prefix = self.pos_embed.shape[1] - own[0] * own[1]
        maps = self.pos_embed[:, prefix:].transpose(1, 2).reshape(1, -1, *own)
        maps = F.interpolate(maps, grid, mode="bilinear", align_corners=False)
        return torch.cat([self.pos_embed[:, :prefix], maps.flatten(2).transpose(1, 2)], dim=1)


class PyramidVisionTransformer(nn.Module):
    """PVT v1. The arguments of the stages are tuples of four; `sr_ratios` are the reductions R of keys and values."""

    def __init__(
        self,
        img_size: int | tuple[int, int],
        patch_size: int,
        embed_dims: Sequence[int],
        num_heads: Sequence[int],
        mlp_ratios: Sequence[float],
        depths: Sequence[int],
        sr_ratios: Sequence[int],
        num_classes: int,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        rates = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        side = (img_size, img_size) if isinstance(img_size, int) else img_size
        stages, channels, last = [], in_chans, len(embed_dims) - 1
        for i, width in enumerate(embed_dims):
            patch = patch_size if i == 0 else 2
            norm = partial(LayerNorm, eps=1e-5)
            embed = PatchEmbed(side, patch, channels, width, norm_layer=norm, output_fmt="NHWC", strict_img_size=False)
            blocks = [Block(width, num_heads[i], sr_ratios[i], mlp_ratios[i], rates[i][j]) for j in range(depths[i])]
            stages.append(Stage(embed, blocks, width, class_token=i == last))
            side, channels = embed.grid_size, width
        self.stages = nn.ModuleList(stages)
        self.norm = LayerNorm(channels, eps=1e-6)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(channels, num_classes) if num_classes else nn.Identity()
        self.num_classes, self.num_features = num_classes, channels
        for name, parameter in self.named_parameters():
            if name.endswith(("pos_embed", "cls_token")) or (name.endswith("weight") and parameter.dim() == 2):
                trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def no_weight_decay(self) -> set[str]:
        """Name the parameters that no decay should pull to zero."""
        return {name for name, _ in self.named_parameters() if name.endswith(("pos_embed", "cls_token"))}

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the tokens (n, 1 + patches, width) of the last stage behind the norm."""
        for place, stage in enumerate(self.stages):
            x, grid = stage(x)
            if place < len(self.stages) - 1:
                x = x.transpose(1, 2).reshape(x.shape[0], -1, *grid)
        tokens: Tensor = self.norm(x)
        return tokens

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 3, height, width) to logits (n, classes)."""
        logits: Tensor = self.head(self.head_drop(self.forward_features(x)[:, 0]))
        return logits


def _pvt(name: str, size: dict[str, Any], given: dict[str, Any]) -> nn.Module:
    arguments = options(STAGES | size, given)
    _check(name, arguments)
    return labelled(PyramidVisionTransformer(**arguments), name)


def _check(name: str, given: dict[str, Any]) -> None:
    """Raise `SeelikeError` for stages that do not fit each other or the image."""
    stages = ("embed_dims", "num_heads", "mlp_ratios", "depths", "sr_ratios")
    for key in stages:
        if not isinstance(given[key], tuple | list) or len(given[key]) != 4:
            raise SeelikeError(f"{name}: {key} must be four numbers, one per stage, not {given[key]!r}")
    side = given["img_size"]
    for pixels in [side] if isinstance(side, int) else side:
        whole = 8 * given["patch_size"]
        if whole < 1 or pixels % whole:
            raise SeelikeError(
                f"{name}: images of {pixels} pixels cannot be halved three times behind patches of "
                f"{given['patch_size']}; choose a side that {whole} divides, or another patch_size"
            )
        for stage, ratio in enumerate(given["sr_ratios"]):
            tokens = pixels // given["patch_size"] // 2**stage
            if ratio < 1 or tokens % ratio:
                raise SeelikeError(
                    f"{name}: stage {stage} has {tokens} tokens a side, which cannot be reduced by {ratio}"
                )
    if given["sr_ratios"][3] != 1:
        raise SeelikeError(f"{name}: the last stage, with its class token, cannot be reduced; end sr_ratios with 1")
    for width, heads in zip(given["embed_dims"], given["num_heads"], strict=True):
        check_heads(width, heads, name)


@register_model  # type: ignore[untyped-decorator]
def seelike_pvt1_lab(pretrained: bool = False, **arguments: Any) -> nn.Module:  # noqa: ARG001
    """PVT v1 of 2 blocks a stage, up to width 96; 0.47 M parameters."""
    return _pvt("seelike_pvt1_lab", LAB, arguments)


@register_model  # type: ignore[untyped-decorator]
def seelike_pvt1_small(pretrained: bool = False, **arguments: Any) -> nn.Module:  # noqa: ARG001
    """PVT v1 of 2 blocks a stage, up to width 256; 2.7 M parameters."""
    return _pvt("seelike_pvt1_small", SMALL, arguments)
