"""Half transformer, half CNN: does the similarity to either family follow the parts?

* ``front=vit`` (the default): half of a ViT without class token on patches; its tokens, behind the ViT's last norm,
  become a map, and residual stages go on from there, the first at the same resolution, the second at half of it.
* ``front=cnn``: the other way round; a convolution with stride 2 and two residual stages, the second with stride 2,
  then its places become tokens with learned positions for the transformer blocks.

The parts are timm's: blocks of `timm.models.vision_transformer`, post-activation bottlenecks of
`timm.models.resnetv2` with GroupNorm and standardised convolutions, as in `seelike.models.architectures.resnet`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from timm.layers import GroupNormAct, LayerNorm, PatchEmbed, StdConv2d, resample_abs_pos_embed, trunc_normal_
from timm.models import register_model
from timm.models.resnetv2 import Bottleneck, ResNetStage
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from seelike.errors import SeelikeError
from seelike.models.architectures.registry import check_heads, check_patches, labelled, options
from seelike.models.architectures.registry import default_cfgs as _table

__all__ = ["BackCnn", "FrontCnn", "seelike_hybrid_lab", "seelike_hybrid_small"]

Stages = tuple[int, ...]

_LAB = {"embed_dim": 64, "depth": 6, "num_heads": 4, "mlp_ratio": 2.0}
_SMALL = {"embed_dim": 192, "depth": 6, "num_heads": 6, "mlp_ratio": 4.0}
LAB = {
    "vit": _LAB | {"layers": (4, 3), "channels": (128, 224)},
    "cnn": _LAB | {"layers": (4, 3), "channels": (96, 256)},
}
SMALL = {
    "vit": _SMALL | {"layers": (4, 3), "channels": (384, 768)},
    "cnn": _SMALL | {"layers": (4, 3), "channels": (256, 768)},
}
GROUPS = 8

default_cfgs = _table(["seelike_hybrid_lab", "seelike_hybrid_small"], "head", "patch_embed.proj")


class Tokens(nn.Module):
    """Learned positions, transformer blocks and a last norm."""

    def __init__(self, grid: tuple[int, int], *, width: int, depth: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.grid = grid
        self.pos_embed = nn.Parameter(torch.zeros(1, grid[0] * grid[1], width))
        blocks = [Block(width, heads, mlp_ratio, qkv_bias=True) for _ in range(depth)]
        self.blocks = nn.Sequential(*blocks)
        self.norm = LayerNorm(width, eps=1e-6)
        trunc_normal_(self.pos_embed, std=0.02)
        for part in self.blocks.modules():
            if isinstance(part, nn.Linear):
                trunc_normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, channels, height, width) to tokens (n, height * width, channels)."""
        grid = list(maps.shape[-2:])
        positions = resample_abs_pos_embed(self.pos_embed, grid, list(self.grid), num_prefix_tokens=0)
        tokens: Tensor = self.norm(self.blocks(maps.flatten(2).transpose(1, 2) + positions))
        return tokens


def stages(channels: int, widths: Stages, layers: Stages) -> nn.Sequential:
    """Residual stages, the first with stride 1, all others with stride 2."""
    norm = partial(GroupNormAct, num_groups=GROUPS)
    made = []
    for place, (width, depth) in enumerate(zip(widths, layers, strict=True)):
        stride = 1 if place == 0 else 2
        stage = ResNetStage(
            channels,
            width,
            stride,
            1,
            depth,
            block_fn=Bottleneck,
            conv_layer=StdConv2d,
            norm_layer=norm,
            act_layer=nn.ReLU,
        )
        made.append(stage)
        channels = width
    for stage in made:
        for part in stage.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(part, Bottleneck):
                part.zero_init_last()
    return nn.Sequential(*made)


class Hybrid(nn.Module):
    """What both orders share: pooling over all places and the classifier."""

    head: nn.Linear
    num_prefix_tokens = 0

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head

    def no_weight_decay(self) -> set[str]:
        """Name the parameters that no decay should pull to zero."""
        return {"tokens.pos_embed"}


class BackCnn(Hybrid):
    """Transformer blocks in front, residual stages behind."""

    def __init__(self, tokens: Mapping[str, Any], channels: Stages, layers: Stages, **given: Any) -> None:
        super().__init__()
        width = tokens["width"]
        self.patch_embed = PatchEmbed(
            given["img_size"], given["patch_size"], given["in_chans"], width, flatten=False, strict_img_size=False
        )
        self.tokens = Tokens(self.patch_embed.grid_size, **tokens)
        self.stages = stages(width, channels, layers)
        self.head = classifier(channels[-1], given["num_classes"])

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 3, height, width) to logits (n, classes)."""
        maps = self.patch_embed(x)
        maps = self.tokens(maps).transpose(1, 2).reshape(maps.shape)
        logits: Tensor = self.head(self.stages(maps).mean((2, 3)))
        return logits


class FrontCnn(Hybrid):
    """Residual stages in front, transformer blocks behind."""

    def __init__(self, tokens: Mapping[str, Any], channels: Stages, layers: Stages, **given: Any) -> None:
        super().__init__()
        stem = channels[0] // 2
        self.stem = nn.Sequential(
            StdConv2d(given["in_chans"], stem, 7, stride=2, padding=3, bias=False), GroupNormAct(stem, GROUPS)
        )
        self.stages = stages(stem, channels, layers)
        self.proj = nn.Conv2d(channels[-1], tokens["width"], 1)
        side = given["img_size"]
        height, width = (side, side) if isinstance(side, int) else side
        reduction = 2 ** len(channels)
        self.tokens = Tokens((height // reduction, width // reduction), **tokens)
        self.head = classifier(tokens["width"], given["num_classes"])

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 3, height, width) to logits (n, classes)."""
        logits: Tensor = self.head(self.tokens(self.proj(self.stages(self.stem(x)))).mean(1))
        return logits


def classifier(width: int, classes: int) -> nn.Linear:
    """Make the last layer."""
    head = nn.Linear(width, classes)
    trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


def _hybrid(name: str, sizes: Mapping[str, dict[str, Any]], given: dict[str, Any]) -> nn.Module:
    front = given.get("front", "vit")
    if front not in sizes:
        raise SeelikeError(f"{name}: front={front!r} is none of {', '.join(sizes)}")
    common = {"img_size": 32, "patch_size": 4, "num_classes": 10, "in_chans": 3}
    arguments = options(common | sizes[front], {key: value for key, value in given.items() if key != "front"})
    if front == "cnn" and arguments["patch_size"] != 4:
        raise SeelikeError(
            f"{name}: with front=cnn there are no patches, and patch_size={arguments['patch_size']} is void"
        )
    unknown = set(arguments) - set(common) - set(sizes[front])
    if unknown:
        known = ", ".join(["front", *common, *sizes[front]])
        raise SeelikeError(f"{name} has no argument {', '.join(sorted(unknown))}; it has {known}")
    check_patches(arguments["img_size"], arguments["patch_size"], name)
    check_heads(arguments["embed_dim"], arguments["num_heads"], name)
    if len(arguments["layers"]) != len(arguments["channels"]) or (front == "cnn" and len(arguments["layers"]) != 2):
        wanted = "two numbers each" if front == "cnn" else "equally many numbers"
        raise SeelikeError(f"{name}: layers and channels must be {wanted}, one per residual stage")
    renamed = {"width": "embed_dim", "depth": "depth", "heads": "num_heads", "mlp_ratio": "mlp_ratio"}
    tokens = {key: arguments.pop(old) for key, old in renamed.items()}
    return labelled((BackCnn if front == "vit" else FrontCnn)(tokens, **arguments), name)


@register_model  # type: ignore[untyped-decorator]
def seelike_hybrid_lab(pretrained: bool = False, **arguments: Any) -> nn.Module:  # noqa: ARG001
    """Hybrid of 6 transformer blocks of width 64 and 7 residual units; 0.47 M parameters."""
    return _hybrid("seelike_hybrid_lab", LAB, arguments)


@register_model  # type: ignore[untyped-decorator]
def seelike_hybrid_small(pretrained: bool = False, **arguments: Any) -> nn.Module:  # noqa: ARG001
    """Hybrid of 6 transformer blocks of width 192 and 7 residual units; 5.5 M parameters."""
    return _hybrid("seelike_hybrid_small", SMALL, arguments)
