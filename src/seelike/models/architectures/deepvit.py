"""DeepViT: a ViT whose heads exchange their attention maps (Re-attention).

``Norm(Theta^T softmax(Q K^T / sqrt(d))) V``: Theta, a 1 x 1 convolution, mixes the heads behind the softmax, and a
BatchNorm over heads follows, as in the authors' code. The rows need not sum to 1 afterwards. All else, depth and width
included, is that of the ViTs in `seelike.models.architectures.vit`. Sources: paper.md section 5.2; Zhou et al. 2021,
"DeepViT: Towards Deeper Vision Transformer".
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.attention import Attention
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from seelike.errors import SeelikeError, close_matches
from seelike.models.architectures.registry import check_heads, check_patches, labelled, options
from seelike.models.architectures.registry import default_cfgs as _table
from seelike.models.architectures.vit import LAB, SMALL, without_class_token

__all__ = ["ReAttention", "seelike_deepvit_lab", "seelike_deepvit_small"]

NORMS = ("batch", "none")

default_cfgs = _table(["seelike_deepvit_lab", "seelike_deepvit_small"], "head", "patch_embed.proj")


class ReAttention(Attention):  # type: ignore[misc]  # timm is untyped
    """timm's attention with `theta` (heads x heads, with biases) and `theta_norm` between softmax and values."""

    normed = True

    def __init__(self, dim: int, num_heads: int = 8, **arguments: Any) -> None:
        super().__init__(dim, num_heads=num_heads, **arguments)
        self.fused_attn = False  # no kernel mixes heads
        self.theta = nn.Conv2d(num_heads, num_heads, 1)
        self.theta_norm = nn.BatchNorm2d(num_heads) if self.normed else nn.Identity()

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Map (n, tokens, width) to the same shape. Raises `SeelikeError` for masks."""
        if attn_mask is not None or is_causal:
            raise SeelikeError("Re-attention takes no mask: behind the mixing of heads nothing would stay masked")
        n, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        scores = (self.q_norm(q) * self.scale) @ self.k_norm(k).transpose(-2, -1)
        # With the heads innermost the 1 x 1 convolution takes a third of the time on a CPU.
        plain = self.attn_drop(scores.softmax(dim=-1)).contiguous(memory_format=torch.channels_last)
        mixed = self.theta_norm(self.theta(plain).contiguous())
        x = (mixed @ v).transpose(1, 2).reshape(n, tokens, self.attn_dim)
        mapped: Tensor = self.proj_drop(self.proj(self.norm(x)))
        return mapped


class BareReAttention(ReAttention):
    """Re-attention without the norm."""

    normed = False


def _deepvit(name: str, size: dict[str, Any], given: dict[str, Any]) -> nn.Module:
    given = dict(given)
    gap, norm = given.pop("gap", False), given.pop("norm", "batch")
    if norm not in NORMS:
        near = close_matches(str(norm), NORMS)
        raise SeelikeError(f"{name}: norm={norm!r} is none of {', '.join(NORMS)}{near}")
    arguments = options({"img_size": 32, "num_classes": 10, **size, **without_class_token(gap)}, given)
    check_patches(arguments["img_size"], arguments["patch_size"], name)
    check_heads(arguments["embed_dim"], arguments["num_heads"], name)
    arguments["attn_layer"] = ReAttention if norm == "batch" else BareReAttention
    return labelled(VisionTransformer(**arguments), name)


@register_model  # type: ignore[untyped-decorator]
def seelike_deepvit_lab(pretrained: bool = False, **arguments: Any) -> nn.Module:  # noqa: ARG001
    """DeepViT of depth 12 and width 64 on patches of 4 pixels; 0.41 M parameters."""
    return _deepvit("seelike_deepvit_lab", LAB, arguments)


@register_model  # type: ignore[untyped-decorator]
def seelike_deepvit_small(pretrained: bool = False, **arguments: Any) -> nn.Module:  # noqa: ARG001
    """DeepViT of depth 12 and width 192 on patches of 4 pixels; 5.4 M parameters."""
    return _deepvit("seelike_deepvit_small", SMALL, arguments)
