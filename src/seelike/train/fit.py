"""The loop that fits a model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from seelike.errors import SeelikeError
from seelike.interrupts import Interrupted, asked_to_stop
from seelike.models.architectures.registry import MEAN, STD
from seelike.models.zoo.transform import normalise
from seelike.train import checkpoint
from seelike.train.augment import augment
from seelike.train.fitting import Fitting
from seelike.train.order import Order, generator
from seelike.train.pixels import Pixels
from seelike.train.progress import Log, Progress, Row
from seelike.train.recipe import Recipe
from seelike.train.schedule import rate

LINES = 100
"""Lines in the log of a run."""
LINES_PER_VALIDATION = 10
BATCH = 500


@dataclass(frozen=True)
class Saving:
    """When checkpoints are written: after every so many steps, or by the clock when `steps` is None."""

    path: Path
    recipe: str
    seconds: float = 60.0
    steps: int | None = None


def fit(
    fitting: Fitting,
    recipe: Recipe,
    training: Pixels,
    validation: Pixels,
    saving: Saving,
    log: Log | None,
    progress: Progress,
    keep: Callable[[int, nn.Module], None],
) -> None:
    """Train until all steps of the recipe are done.

    Every process takes its share of each batch; which images those are and how they are changed depends on the seed
    and the step alone. `keep` is called with (epoch, module) after every `recipe.keep` epochs.

    Ctrl-C stops after the step under way, with a checkpoint of it, and raises `Interrupted`. Several processes must
    not stop at different steps, or they would wait for each other: there Ctrl-C is left to whoever started them.

    Raises `SeelikeError` when the loss is not finite or a checkpoint cannot be written.
    """
    how = recipe.optimisation
    order = Order(len(training), how.batch, recipe.seed)
    every = max(1, how.steps // LINES)
    watch = Watch(fitting, saving)
    progress.start(how.steps, fitting.step)
    fitting.module.train()
    with asked_to_stop() if fitting.fabric.world_size == 1 else nullcontext(threading.Event()) as asked:
        while fitting.step < how.steps:
            one_step(fitting, recipe, training, order)
            progress.step(fitting.step)
            last = fitting.step == how.steps
            if fitting.step % every == 0 or last:
                speed = watch.lap() * how.batch
                validated = (
                    accuracy(fitting, validation)
                    if fitting.step % (every * LINES_PER_VALIDATION) == 0 or last
                    else None
                )
                row = line(fitting, order, recipe, speed, validated)
                if log is not None:
                    log.write(row)
                progress.row(row)
                watch.start_lap()
            if order.ends_epochs(fitting.step, recipe.keep) and fitting.fabric.is_global_zero:
                keep(int(order.epoch(fitting.step)), fitting.best)
            if asked.is_set():
                watch.save()
                raise Interrupted(f"stopped after step {fitting.step} of {how.steps}")
            watch.save_if_due()
    watch.tell_seconds()


def one_step(fitting: Fitting, recipe: Recipe, training: Pixels, order: Order) -> None:
    """Show one batch and change the weights."""
    how, fabric, step = recipe.optimisation, fitting.fabric, fitting.step
    rows = order.rows(step)
    images = augment(training.take(rows), recipe.augmentation, generator(recipe.seed, step))
    mine = slice(fabric.global_rank, None, fabric.world_size)
    labels = training.labels[rows.to(training.labels.device)][mine]
    torch.manual_seed(recipe.seed * 1_000_003 + step * 1_009 + fabric.global_rank)  # of dropout, where there is any
    loss = F.cross_entropy(
        fitting.forward(normalise(images[mine], MEAN, STD)).float(), labels, label_smoothing=how.label_smoothing
    )
    fitting.optimizer.zero_grad()
    fabric.backward(loss)
    if how.clip:
        fabric.clip_gradients(fitting.forward, fitting.optimizer, max_norm=how.clip, error_if_nonfinite=False)
    for group in fitting.optimizer.param_groups:
        group["lr"] = rate(step, how)
    fitting.optimizer.step()
    fitting.step += 1
    if fitting.ema is not None:
        fitting.ema.update(fitting.module, step=fitting.step)
    fitting.loss += loss.detach()
    fitting.steps_since += 1


def line(fitting: Fitting, order: Order, recipe: Recipe, speed: float, validated: float | None) -> Row:
    """Make a line of the log and start the next mean of the loss. Raises `SeelikeError` when it is not finite."""
    loss = float(fitting.fabric.all_reduce(fitting.loss / fitting.steps_since, reduce_op="mean"))
    last = rate(fitting.step - 1, recipe.optimisation)
    if not torch.isfinite(torch.tensor(loss)):
        raise SeelikeError(
            f"the loss became {loss} between steps {fitting.step - fitting.steps_since} and {fitting.step}, at a rate "
            f"of {last:.2g}; try a smaller optimisation.rate, a longer warmup, or precision: fp32"
        )
    fitting.loss.zero_()
    fitting.steps_since = 0
    return Row(fitting.step, order.epoch(fitting.step), loss, last, speed, validated)


@torch.no_grad()
def accuracy(fitting: Fitting, images: Pixels) -> float:
    """Share of `images` that the network to keep gets right, every process counting its share."""
    fabric, module = fitting.fabric, fitting.best
    module.eval()
    hits = torch.zeros((), device=fabric.device)
    rows = torch.arange(fabric.global_rank, len(images), fabric.world_size)
    for some in torch.split(rows, BATCH):
        with fabric.autocast():
            outputs = module(normalise(images.take(some), MEAN, STD).to(fabric.device))
        hits += (outputs.argmax(1) == images.labels[some.to(images.labels.device)]).sum()
    fitting.module.train()
    return float(fabric.all_reduce(hits, reduce_op="sum")) / len(images)


class Watch:
    """Seconds of training, speed, and when the next checkpoint is due."""

    def __init__(self, fitting: Fitting, saving: Saving) -> None:
        self.fitting, self.saving = fitting, saving
        self.before, self.cpu_before = fitting.seconds, fitting.cpu_seconds
        self.started = self.saved = time.monotonic()
        self.cpu_started = time.process_time()
        self.start_lap()

    def tell_seconds(self) -> None:
        """Write down the seconds by the clock and of the processor, those before an interruption included."""
        self.fitting.seconds = self.before + time.monotonic() - self.started
        self.fitting.cpu_seconds = self.cpu_before + time.process_time() - self.cpu_started

    def start_lap(self) -> None:
        """Measure the speed from here."""
        self.lap_started, self.lap_step = time.monotonic(), self.fitting.step

    def lap(self) -> float:
        """Steps per second since the lap started."""
        return (self.fitting.step - self.lap_step) / max(time.monotonic() - self.lap_started, 1e-9)

    def save_if_due(self) -> None:
        """Write a checkpoint when it is time; one process does, and all others go on."""
        every, now = self.saving.steps, time.monotonic()
        due = self.fitting.step % every == 0 if every else now - self.saved > self.saving.seconds
        if due and self.fitting.fabric.is_global_zero:
            self.save()

    def save(self) -> None:
        """Write a checkpoint."""
        self.tell_seconds()
        checkpoint.save(self.fitting.state() | {"recipe": self.saving.recipe}, self.saving.path)
        self.saved = time.monotonic()
