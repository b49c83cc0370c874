"""How much memory a pass will take, told before it starts."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from seelike.errors import SeelikeError
from seelike.models import Model
from seelike.passes.plan import PassPlan
from seelike.studies import Fold

CPU_BATCH = 32
"""Images in a forward batch on a CPU: beyond this the kernels gain nothing and memory is lost."""
SMALL_BATCH, SMALL = 64, 256 << 10
"""The same for models that keep no more bytes alive per image: two such batches fit the cache that cores share."""
GPU_BATCH = 256
SHARE = 0.5
"""Share of the free memory that activations may plan for; the rest is for kernels' own working space."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a pass expects to hold, and the forward batch chosen from them.

    `buffers` is what is kept of a minibatch that is run in pieces, `rounds` how many times it is run because not
    all layers' tensors fit at once (0: the minibatch fits a forward batch and nothing is kept).
    """

    batch: int
    parameters: int
    activations: int
    inputs: int
    studies: int
    buffers: int
    rounds: int
    available: int

    def __str__(self) -> str:
        text = (
            f"memory plan: forward batch {self.batch}; parameters {size(self.parameters)}, activations "
            f"{size(self.activations)}, images {size(self.inputs)}, studies {size(self.studies)}"
        )
        if self.rounds:
            text += f", minibatch kept in pieces {size(self.buffers)} ({self.rounds} round{'s' * (self.rounds > 1)})"
        return f"{text}; {size(self.available)} available"


def size(count: float) -> str:
    """Bytes in words: ``3.2 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def make_memory_plan(
    models: Mapping[str, Model], folds: Sequence[Fold], plan: PassPlan, batch: int | None, tally_bytes: int
) -> MemoryPlan:
    """Choose the forward batch and add up what will be held.

    Models run one after the other, so activations count for the largest only. Without `batch`, it is the
    multiple of the minibatch nearest below the device's liking that fits the free memory, or less than a
    minibatch when even one does not fit.
    """
    device = next(iter(models.values())).device
    free = available_bytes(device)
    per_image = max(model.anatomy.live_bytes_per_image() for model in models.values())
    minibatch = plan.design.largest
    if batch is None:
        fits = max(1, int(SHARE * free / max(1, per_image)))
        on_cpu = SMALL_BATCH if per_image <= SMALL else CPU_BATCH
        liked = on_cpu if device.type == "cpu" else GPU_BATCH
        batch = max(liked // minibatch, 1) * minibatch
        batch = min(batch, fits) if fits < minibatch else min(batch, fits // minibatch * minibatch)
    in_pieces = batch < minibatch
    kept = [kept_bytes(label, model, folds, minibatch) for label, model in models.items()]
    budget = int(SHARE * free)
    rounds = max(-(-k // max(1, budget)) for k in kept) if in_pieces else 0
    return MemoryPlan(
        batch=batch,
        parameters=sum(p.numel() * p.element_size() for model in models.values() for p in model.module.parameters()),
        activations=per_image * min(batch, plan.images),
        inputs=sum(math.prod(m.input_size) * 4 for m in models.values()) * max(batch, minibatch),
        studies=sum(fold.held_bytes() for fold in folds) + tally_bytes,
        buffers=min(max(kept), budget) if in_pieces else 0,
        rounds=rounds,
        available=free,
    )


def kept_bytes(label: str, model: Model, folds: Sequence[Fold], minibatch: int) -> int:
    """Bytes of all tensors that the folds want of one model, for a whole minibatch."""
    sites = {site.point: site for fold in folds for site in fold.sites(label)}
    return sum(math.prod(site.shape) for site in sites.values()) * model.dtype.itemsize * minibatch


def available_bytes(device: torch.device) -> int:
    """Free memory of the device; of the machine, within its control group's limit, for a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text().strip()).isdigit():
        free = min(free, int(text) - int(used.read_text()))
    return max(free, 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on whichever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def halve(batch: int, model: Model) -> int:
    """The next smaller forward batch. Raises `SeelikeError` when a single image is already too much."""
    if batch <= 1:
        raise SeelikeError(
            f"{model.name}: memory runs out with a single image of {model.input_size}; choose fewer --layers, a "
            f"smaller --minibatch, a smaller model or image, or a device with more memory"
        )
    return batch // 2
