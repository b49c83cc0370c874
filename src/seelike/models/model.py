"""A model: a module, the size of its images, its preprocessing, and where it came from."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from seelike.errors import SeelikeError
from seelike.models.preprocess import Preprocess, default_transform

if TYPE_CHECKING:
    from seelike.anatomy import Anatomy, LayoutHint

EXAMPLE_SEED = 0


class Model:
    """Any image model, ready to be studied.

    Wrappers (`torch.compile`, data parallel) are taken off, and the module is set to eval mode and its
    parameters to `requires_grad=False`, in place: train a copy if you still want to train.

    * `module` takes a batch (n, channels, height, width) and returns anything.
    * `input_size` is (channels, height, width) of one preprocessed image.
    * `name` is for labels.
    * `preprocess` makes of a PIL image (``RGB`` for 3 channels, ``L`` for 1, else as decoded) a float tensor
      of shape `input_size`. By default the short side is resized to 256/224 of the input size (bicubic), the
      centre cropped, values scaled to [-1, 1]; there is no default for other than 1 or 3 channels.
      `preprocess_note` says in one sentence what it does.
    * `spec` is what the model was loaded from, `provenance` what `run.json` keeps: kind, weights, versions.
    * `input_name` is the keyword by which the module takes its images (``pixel_values``); None: by position.
    * `layout` is the token layout, where the module does not tell it; see `seelike.anatomy.read_anatomy`.

    Raises `SeelikeError` when `module` is no module or `input_size` no image size.
    """

    def __init__(
        self,
        module: nn.Module,
        input_size: Sequence[int] = (3, 224, 224),
        name: str = "model",
        *,
        preprocess: Callable[[Any], Any] | None = None,
        preprocess_note: str | None = None,
        spec: str | None = None,
        provenance: dict[str, Any] | None = None,
        input_name: str | None = None,
        layout: LayoutHint | None = None,
    ) -> None:
        self.name = clean_name(name)
        self.module = unwrap(module, self.name).eval().requires_grad_(False)
        self.input_size = check_size(input_size, self.name)
        self.spec = spec
        self.provenance = dict(provenance or {"kind": "python", "name": self.name, "weights": "as given"})
        self.input_name = input_name
        self.layout = layout
        self.preprocess_note: str
        if preprocess is None:
            transform = default_transform(self.input_size, self.name)
            preprocess, self.preprocess_note = transform, preprocess_note or transform.note
        else:
            self.preprocess_note = preprocess_note or "the caller's own"
        self.preprocess = Preprocess(preprocess, self.input_size, self.name)
        self._anatomy: tuple[torch.device, torch.dtype, Anatomy] | None = None

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.input_size))
        return f"Model({self.name}, {size}, {self.parameters:,} parameters)"

    @property
    def parameters(self) -> int:
        """How many parameters the module has, shared ones counted once."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    @property
    def device(self) -> torch.device:
        """Device of the module's first parameter (or buffer); the CPU when it has none."""
        tensor = self._first_tensor()
        return torch.device("cpu") if tensor is None else tensor.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the module's first floating parameter (or buffer); float32 when it has none."""
        tensor = self._first_tensor(floating=True)
        return torch.float32 if tensor is None else tensor.dtype

    def _first_tensor(self, *, floating: bool = False) -> Tensor | None:
        for tensors in (self.module.parameters(), self.module.buffers()):
            for tensor in tensors:
                if tensor.is_floating_point() or not floating:
                    return tensor
        return None

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Model:
        """Move the module, in place, and return this model. An anatomy read elsewhere is forgotten.

        Raises `SeelikeError` naming the device when the module cannot go there.
        """
        try:
            self.module.to(device=torch.device(device), dtype=dtype)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).strip().split("\n")[0]
            raise SeelikeError(f"cannot move model {self.name} to device {device}: {reason}") from error
        if self._anatomy is not None and self._anatomy[:2] != (self.device, self.dtype):
            self._anatomy = None
        return self

    @property
    def anatomy(self) -> Anatomy:
        """The sites of the model, read when first asked for and kept.

        Raises `SeelikeError` naming the model when it cannot be read.
        """
        # The graph is frozen in device and type, so a module moved behind our back is read anew.
        if self._anatomy is None or self._anatomy[:2] != (self.device, self.dtype):
            self._anatomy = (self.device, self.dtype, self._read_anatomy())
        return self._anatomy[2]

    def _read_anatomy(self) -> Anatomy:
        from seelike.anatomy import read_anatomy  # heavy, and only needed here

        try:
            return read_anatomy(self.module, self.inputs(self.example()), name=self.name, layout=self.layout)
        except (SeelikeError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise SeelikeError(
                f"model {self.name} cannot be read as a graph for input {self.input_size}: "
                f"{type(error).__name__}: {reason}"
            ) from error

    def example(self, n: int = 2) -> Tensor:
        """Return random images (n, channels, height, width), the same ones for every call."""
        generator = torch.Generator().manual_seed(EXAMPLE_SEED)
        return torch.randn(n, *self.input_size, generator=generator).to(self.device, self.dtype)

    def inputs(self, images: Tensor) -> tuple[Tensor, ...] | dict[str, Tensor]:
        """Make of a float batch (n, channels, height, width) what the module is called with.

        The batch is moved to the module's device and type. Raises `SeelikeError` when its shape is not
        (n, *input_size) or its values are no floats.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != self.input_size:
            expected = ", ".join(map(str, self.input_size))
            raise SeelikeError(
                f"model {self.name} takes a batch of shape (n, {expected}), but was given "
                f"{tuple(images.shape)}; give images of that size, or set the model's size: Model(..., "
                "input_size=(channels, height, width)) in Python, ?input_size=HEIGHTxWIDTH in a spec"
            )
        if not images.is_floating_point():
            raise SeelikeError(
                f"model {self.name} was given images of type {images.dtype}; give preprocessed floats, for "
                "example images / 255"
            )
        images = images.to(self.device, self.dtype)
        return (images,) if self.input_name is None else {self.input_name: images}


def clean_name(name: str) -> str:
    """Make `name` fit for one line of a table: no control characters, single spaces, never empty."""
    printable = "".join(c if c.isprintable() else " " for c in str(name))
    return re.sub(r"\s+", " ", printable).strip() or "model"


def unwrap(module: nn.Module, name: str) -> nn.Module:
    """Take off what `torch.compile` and data parallel training put around a module."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(module, nn.Module):
        compiled = getattr(module, "_orig_mod", None)
        if isinstance(compiled, nn.Module):
            module = compiled
        elif isinstance(module, parallel):
            module = module.module
        else:
            break
    if isinstance(module, nn.Module):
        if any(isinstance(p, nn.parameter.UninitializedParameter) for p in module.parameters()):
            raise SeelikeError(
                f"model {name} has lazy parameters without values; call it once on a batch, then wrap it"
            )
        return module
    raise SeelikeError(f"model {name} must be a torch.nn.Module, not {type(module).__name__}")


def check_size(size: Sequence[int], name: str) -> tuple[int, int, int]:
    """Return `size` as three positive ints."""
    try:
        channels, height, width = (int(s) for s in size)
    except (TypeError, ValueError):
        channels = height = width = 0
    if min(channels, height, width) < 1:
        raise SeelikeError(
            f"input_size of model {name} must be (channels, height, width), for example (3, 224, 224), not {size!r}"
        )
    return channels, height, width
