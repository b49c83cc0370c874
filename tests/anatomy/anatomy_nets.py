"""Small networks whose every number can be followed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from seelike.anatomy import Anatomy


class InPlace(nn.Module):
    """A BatchNorm that an in-place ReLU overwrites, and one ReLU module called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.conv(x)))
        x = self.relu(x - 0.5)
        return self.head(x.mean((2, 3)))


class Gated(nn.Module):
    """One level of a nested network: a scale, a linear map, a skip."""

    def __init__(self, width: int, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = inner if inner is not None else nn.Identity()
        self.fc = nn.Linear(width, width)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        y = self.norm(x)
        if isinstance(self.inner, Gated):
            y = self.inner(y)[0]
        branch = self.drop(self.fc(y))
        return x + branch, {"branch": branch}


class Nested(nn.Module):
    """Three levels of `Gated`, called twice with the same weights; outputs are tuples and dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Linear(6, 8)
        self.level = Gated(8, Gated(8, Gated(8)))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x)
        x, _ = self.level(x)
        x, extra = self.level(x * 0.5)
        return self.head((x + extra["branch"].tanh()).mean(1))


class ToyMLP(nn.Module):
    """Vectors only, no positions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(10, 16)
        self.norm = nn.LayerNorm(16)
        self.second = nn.Linear(16, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(F.relu(self.first(x)))
        return self.head(self.second(x))


class WrittenOut(nn.Module):
    """An activation written out, a squeeze-and-excite gate, a layer scale, a head on a map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.fc1 = nn.Linear(8, 16)
        self.act = QuickGELU()
        self.fc2 = nn.Linear(16, 8)
        self.scale = nn.Parameter(torch.full((8,), 0.5))
        self.squeeze = nn.Conv2d(8, 2, 1)
        self.excite = nn.Conv2d(2, 8, 1)
        self.mask = nn.Conv2d(8, 1, 3, padding=1)
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y = self.scale * self.fc2(self.act(self.fc1(x.permute(0, 2, 3, 1))))
        x = x + y.permute(0, 3, 1, 2)
        x = x * self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.head(x * self.mask(x).sigmoid())


class QuickGELU(nn.Module):
    """An activation that is no single operation."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class AcrossImages(nn.Module):
    """Every image looks at the others of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        return (x @ x.T).softmax(-1) @ x


class WritesThroughView(nn.Module):
    """Writes to a part of a tensor that is used again: cannot be made functional."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y[:, 0] += 100.0
        return self.second(y)


class WindowsFirst(nn.Module):
    """Folds windows into the batch with the windows outermost: rows of an image are not together."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 4)
        self.mixed = nn.Linear(8, 8)
        self.whole = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).flatten(2).transpose(1, 2)  # n, 16, 8
        n, t, c = y.shape
        y = self.mixed(y.reshape(n, 4, 4, c).transpose(0, 1).reshape(4 * n, 4, c))
        y = y.reshape(4, n, 4, c).transpose(0, 1).reshape(n, t, c)
        return self.whole(y)


def all_taps(anatomy: Anatomy) -> tuple[dict[str, Tensor], dict[str, Callable[[Tensor], None]]]:
    """Taps that keep every layer of an anatomy, and where they keep it (by point)."""
    kept: dict[str, Tensor] = {}

    def keeper(point: str) -> Callable[[Tensor], None]:
        def keep(tensor: Tensor) -> None:
            assert point not in kept, f"{point} was handed on twice"
            kept[point] = tensor

        return keep

    return kept, {site.point: keeper(site.point) for site in anatomy.layers}


def hooked(module: nn.Module, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
    """Clones of every module output at the moment it is returned, by name."""
    found: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def hook(path: str) -> Callable[..., None]:
        def note(_module: nn.Module, _inputs: Any, outputs: Any) -> None:
            call = calls[path]
            calls[path] += 1
            for number, tensor in enumerate(leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)):
                suffix = (f"@{call}" if call else "") + (f":{number}" if number else "")
                found[(path or "output") + suffix] = tensor.detach().clone()

        return note

    handles = [child.register_forward_hook(hook(path)) for path, child in module.named_modules()]
    with torch.no_grad():
        module(*args, **kwargs)
    for handle in handles:
        handle.remove()
    return found


def shake(module: nn.Module) -> nn.Module:
    """Move weights and running statistics away from values that hide mistakes (zeros and ones)."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(torch.randn(buffer.shape, generator=generator) * 0.3)
    return module.eval()
