"""Vision transformers: CLS or GAP, how they know positions, and with the skips of one block removed.

`timm.models.vision_transformer.VisionTransformer` throughout: patches, learned position embedding, pre-norm blocks.

* ``gap=true``: no class token at all; the final norm, then the mean over the patches (as in Google's public code).
* ``cut=7``: block 7 (counted from 0) has no skips, z <- MSA(LN z), z <- MLP(LN z); ``cut_sublayers=attention`` or
  ``mlp`` removes only one of the two. With the same seed, all weights start as in the uncut model.
* ``pos=learned``, ``none``, ``sincos`` or ``peg`` (CPVT): see `seelike.models.architectures.positions`. All but the
  first take images of other sizes as they are; learned positions are interpolated with ``dynamic_img_size=true``.
"""

from __future__ import annotations

from typing import Any, Literal

from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from seelike.errors import SeelikeError
from seelike.models.architectures.positions import PositionedViT, check_position
from seelike.models.architectures.registry import check_heads, check_patches, labelled, options
from seelike.models.architectures.registry import default_cfgs as _table

__all__ = ["CutBlock", "seelike_vit_lab", "seelike_vit_small"]

SUBLAYERS = ("both", "attention", "mlp")
LAB = {"patch_size": 4, "embed_dim": 64, "depth": 12, "num_heads": 4, "mlp_ratio": 2.0}
SMALL = {"patch_size": 4, "embed_dim": 192, "depth": 12, "num_heads": 6, "mlp_ratio": 4.0}

default_cfgs = _table(["seelike_vit_lab", "seelike_vit_small"], "head", "patch_embed.proj")


class CutBlock(nn.Module):
    """A transformer block without one or both of its skips; its parts and their names are those of `block`."""

    def __init__(self, block: Any, sublayers: Literal["both", "attention", "mlp"] = "both") -> None:
        super().__init__()
        # Module by module, so that the weights keep their names.
        self.norm1: nn.Module = block.norm1
        self.attn: nn.Module = block.attn
        self.ls1: nn.Module = block.ls1
        self.drop_path1: nn.Module = block.drop_path1
        self.norm2: nn.Module = block.norm2
        self.mlp: nn.Module = block.mlp
        self.ls2: nn.Module = block.ls2
        self.drop_path2: nn.Module = block.drop_path2
        self.cut_attention = sublayers in ("both", "attention")
        self.cut_mlp = sublayers in ("both", "mlp")

    def forward(self, x: Tensor, **mask: Any) -> Tensor:
        """Map (n, tokens, width) to the same shape."""
        branch: Tensor = self.drop_path1(self.ls1(self.attn(self.norm1(x), **mask)))
        x = branch if self.cut_attention else x + branch
        branch = self.drop_path2(self.ls2(self.mlp(self.norm2(x))))
        return branch if self.cut_mlp else x + branch


def _vit(name: str, size: dict[str, Any], given: dict[str, Any]) -> nn.Module:
    given = dict(given)
    gap, pos = given.pop("gap", False), given.pop("pos", "learned")
    cut, sublayers = given.pop("cut", None), given.pop("cut_sublayers", "both")
    arguments = options({"img_size": 32, "num_classes": 10, **size, **without_class_token(gap)}, given)
    check_patches(arguments["img_size"], arguments["patch_size"], name)
    check_heads(arguments["embed_dim"], arguments["num_heads"], name)
    check_position(pos, arguments["embed_dim"], name)
    model = VisionTransformer(**arguments) if pos == "learned" else PositionedViT(pos, **arguments)
    if cut is not None:
        cut_skips(model, cut, sublayers, name)
    return labelled(model, name)


def without_class_token(gap: bool) -> dict[str, Any]:
    """Return timm's arguments for a ViT that averages its patches behind the final norm; none of them unless `gap`."""
    return {"class_token": False, "global_pool": "avg", "fc_norm": False} if gap else {}


def cut_skips(model: VisionTransformer, cut: Any, sublayers: Any, name: str) -> None:
    """Replace block `cut` by one without skips, in place."""
    depth = len(model.blocks)
    if type(cut) is not int or not 0 <= cut < depth:
        raise SeelikeError(f"{name}: cut={cut!r} is not a block; blocks are counted from 0 to {depth - 1}")
    if sublayers not in SUBLAYERS:
        raise SeelikeError(f"{name}: cut_sublayers={sublayers!r} is none of {', '.join(SUBLAYERS)}")
    model.blocks[cut] = CutBlock(model.blocks[cut], sublayers)


@register_model  # type: ignore[untyped-decorator]
def seelike_vit_lab(pretrained: bool = False, **arguments: Any) -> nn.Module:  # noqa: ARG001
    """ViT of depth 12 and width 64 on patches of 4 pixels; 0.41 M parameters."""
    return _vit("seelike_vit_lab", LAB, arguments)


@register_model  # type: ignore[untyped-decorator]
def seelike_vit_small(pretrained: bool = False, **arguments: Any) -> nn.Module:  # noqa: ARG001
    """ViT of depth 12 and width 192 on patches of 4 pixels; 5.4 M parameters."""
    return _vit("seelike_vit_small", SMALL, arguments)
