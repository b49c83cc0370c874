"""Small architectures of ours, built from timm's parts and registered with timm.

After `register()`, ``timm.create_model("seelike_vit_lab")`` and ``timm:seelike_vit_lab?...`` work. Each comes in two
sizes: *lab*, at most 0.5 M parameters, for minutes on two CPU cores, and *small*, 2 to 6 M, for a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from seelike.errors import SeelikeError, close_matches

__all__ = ["NAMES", "build", "register"]

FAMILIES = ("vit", "deepvit", "resnet", "hybrid", "mixer", "pvt1", "pvt")

NAMES = tuple(f"seelike_{family}_{size}" for family in FAMILIES for size in ("lab", "small"))
"""Names in timm's registry."""


def register() -> None:
    """Make timm know the architectures. Cheap when timm is loaded, and the second time free."""
    from seelike.models.architectures import deepvit, hybrid, mixer, pvt, pvt1, resnet, vit  # noqa: F401 - importing registers


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build one of timm's architectures, ours included, with random weights.

    Raises `SeelikeError` for an unknown name (with close matches) and for arguments that do not fit.
    """
    import timm

    register()
    if not timm.is_model(name):
        raise SeelikeError(f"there is no architecture {name!r}{close_matches(name, [*NAMES, *timm.list_models()])}")
    try:
        module: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        given = ", ".join(f"{key}={value}" for key, value in arguments.items())
        said = str(error).strip().split("\n")[0] or type(error).__name__
        raise SeelikeError(f"architecture {name} cannot be built with {given or 'no arguments'}: {said}") from error
    return module
