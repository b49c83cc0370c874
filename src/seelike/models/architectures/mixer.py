"""MLP-Mixer: `timm.models.mlp_mixer.MlpMixer` on patches of small images."""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models.mlp_mixer import MlpMixer
from torch import nn

from seelike.models.architectures.registry import check_patches, labelled, options
from seelike.models.architectures.registry import default_cfgs as _table

__all__ = ["seelike_mixer_lab", "seelike_mixer_small"]

LAB = {"patch_size": 4, "embed_dim": 64, "num_blocks": 12, "mlp_ratio": (0.5, 4.0)}
SMALL = {"patch_size": 4, "embed_dim": 192, "num_blocks": 12, "mlp_ratio": (0.5, 4.0)}

default_cfgs = _table(["seelike_mixer_lab", "seelike_mixer_small"], "head", "stem.proj")


def _mixer(name: str, size: dict[str, Any], given: dict[str, Any]) -> nn.Module:
    arguments = options({"img_size": 32, "num_classes": 10, **size}, given)
    check_patches(arguments["img_size"], arguments["patch_size"], name)
    return labelled(MlpMixer(**arguments), name)


@register_model  # type: ignore[untyped-decorator]
def seelike_mixer_lab(pretrained: bool = False, **arguments: Any) -> nn.Module:  # noqa: ARG001
    """Mixer of 12 blocks and width 64 on patches of 4 pixels; 0.45 M parameters."""
    return _mixer("seelike_mixer_lab", LAB, arguments)


@register_model  # type: ignore[untyped-decorator]
def seelike_mixer_small(pretrained: bool = False, **arguments: Any) -> nn.Module:  # noqa: ARG001
    """Mixer of 12 blocks and width 192 on patches of 4 pixels; 3.7 M parameters."""
    return _mixer("seelike_mixer_small", SMALL, arguments)
