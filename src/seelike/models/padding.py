"""The same network without zeros around its maps: what they tell of place is gone (Islam et al. 2021; paper.md 5.5).

On the command line, with this file's own path: ``py:src/seelike/models/padding.py:padded?model=zoo:resnet``.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from seelike.errors import SeelikeError
from seelike.models import Model, load_model

Mode = Literal["circular", "reflect", "replicate"]
MODES = ("circular", "reflect", "replicate")
PADS: dict[str, Callable[[Any], nn.Module]] = {
    "circular": nn.CircularPad2d,
    "reflect": nn.ReflectionPad2d,
    "replicate": nn.ReplicationPad2d,
}


def without_zero_padding(module: nn.Module, mode: Mode = "circular") -> nn.Module:
    """A copy of a convolutional network that continues its maps over their edges instead of adding zeros.

    Weights stay as they are; what the network was trained for may not. Convolutions and zero-padding layers are
    changed; poolings that pad (a maximum never takes the padding) stay.

    Args:
        module: is left as it is.
        mode: ``circular`` (the map goes on at its other side, so that no place differs from another), ``reflect`` or
            ``replicate``.

    Raises:
        SeelikeError: an unknown mode, a network without zero padding, convolutions that pad by themselves in a way of
            their own (timm's ``*Same``).
    """
    if mode not in MODES:
        raise SeelikeError(f"the mode of padding is {', '.join(MODES)}, not {mode!r}")
    module = deepcopy(module)
    changed = 0
    for name, child in list(module.named_modules()):
        if isinstance(child, nn.Conv2d):
            if type(child).__name__.endswith("Same"):
                raise SeelikeError(
                    f"{name} is a {type(child).__name__}, which pads in a way of its own; take a network whose padding "
                    "is fixed"
                )
            changed += _change(child, mode)
        elif isinstance(child, nn.ZeroPad2d):
            parent, _, last = name.rpartition(".")
            setattr(module.get_submodule(parent), last, PADS[mode](child.padding))
            changed += 1
    if not changed:
        raise SeelikeError(
            f"no convolution of this {type(module).__name__} adds zeros around its map: there is nothing to take away"
        )
    return module


def _change(conv: nn.Conv2d, mode: Mode) -> bool:
    """Change one convolution in place; whether it added zeros."""
    around: list[int] = conv._reversed_padding_repeated_twice  # left, right, top, bottom
    if conv.padding_mode != "zeros" or not any(around):
        return False
    if type(conv).forward is nn.Conv2d.forward and type(conv)._conv_forward is nn.Conv2d._conv_forward:
        conv.padding_mode = mode
    else:  # a convolution with a forward pass of its own (standardised weights) need not look at the mode
        conv.padding = (0, 0)
        conv.register_forward_pre_hook(partial(_pad, around, mode))
    return True


def _pad(around: list[int], mode: Mode, _module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (F.pad(inputs[0], around, mode=mode), *inputs[1:])


def padded(model: str = "zoo:resnet", mode: Mode = "circular") -> Model:
    """Load a model and take its zero padding away; its preprocessing stays.

    Raises:
        SeelikeError: as `load_model` and `without_zero_padding` do.
    """
    loaded = load_model(model)
    preprocess = loaded.preprocess.transform
    return Model(
        without_zero_padding(loaded.module, mode),
        loaded.input_size,
        f"{loaded.name}-{mode}",
        preprocess=preprocess,
        preprocess_note=loaded.preprocess_note,
        provenance={**loaded.provenance, "padding": f"{mode} instead of zeros"},
        input_name=loaded.input_name,
        layout=loaded.layout,
    )
