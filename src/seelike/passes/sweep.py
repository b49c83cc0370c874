"""The pass: one sweep of the images through all models, feeding all studies at once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from seelike.errors import SeelikeError
from seelike.images import Batch, Images, load_batches
from seelike.interrupts import Interrupted, asked_to_stop
from seelike.models import Model
from seelike.passes.forward import Forward
from seelike.passes.memory import MemoryPlan, make_memory_plan
from seelike.passes.plan import PassOptions, PassPlan, Portion
from seelike.passes.state import PassState, load_state, save_state
from seelike.studies import Fold, Minibatch, NonFinite, Tally


class Progress(Protocol):
    """Who watches a pass. The command line draws a bar; the library is silent."""

    def start(self, images: int, done: int) -> None:
        """A pass over so many images begins, of which `done` were done by an earlier start."""

    def advance(self, images: int) -> None:
        """So many images more are done."""

    def tell(self, sentence: str) -> None:
        """Something that the user should know."""


class Silent:
    """Watches nothing."""

    def start(self, images: int, done: int) -> None:
        """Nothing."""

    def advance(self, images: int) -> None:
        """Nothing."""

    def tell(self, sentence: str) -> None:
        """Nothing."""


@dataclass
class Pass:
    """Everything that one sweep needs.

    Attributes:
        models: label -> model, in order; folds: the studies at work, begun on these labels.
        images, plan, options: what passes and how it is cut.
        folder: where the state of the run is kept, None to keep none.
        fingerprint: what must be the same for a state to be resumed.
        resume: go on from a state in `folder` if there is one.
    """

    models: Mapping[str, Model]
    folds: Sequence[Fold]
    images: Images
    plan: PassPlan
    options: PassOptions
    folder: Path | None = None
    fingerprint: dict[str, Any] = field(default_factory=dict)
    resume: bool = False
    progress: Progress = field(default_factory=Silent)

    def run(self) -> PassState:
        """Sweep once; return the tally of all minibatches and what happened on the way.

        Raises:
            SeelikeError: bad images, NaN in an activation, not enough memory for a single image.
            Interrupted: Ctrl-C; the state is saved first.
        """
        state, memory = self._prepare()
        with asked_to_stop() as asked, _exact_products():
            self.progress.tell(str(memory))
            self._sweep(state, asked)
        self._check_any_left(state)
        return state

    def nothing_to_show(self) -> PassState:
        """The state of a run whose studies look at weights alone."""
        tally: Tally = {key: value for fold in self.folds for key, value in fold.empty().items()}
        return PassState(tally, 0, 0, [], [])

    def _sweep(self, state: PassState, asked: threading.Event) -> None:
        started = time.monotonic() - state.seconds
        saved = time.monotonic()
        self.progress.start(self.plan.images, sum(len(p.images) for p in self.plan.portions[: state.done]))
        tell = self._tell(state)
        forwards = [Forward(label, model, self.folds, state.batch, tell) for label, model in self.models.items()]
        groups = self.plan.forward_batches(state.batch, state.done)
        for group, batch in zip(groups, self._load(groups), strict=True):
            self._fold(group, batch, forwards, state)
            state.seconds = time.monotonic() - started
            self.progress.advance(sum(len(p.images) for p in group))
            if asked.is_set():
                self.save(state)
                raise Interrupted(self._stopped(state))
            if time.monotonic() - saved > self.options.save_every:
                self._try_to_save(state)
                saved = time.monotonic()

    def _stopped(self, state: PassState) -> str:
        done = f"stopped after {state.done} of {len(self.plan.portions)} minibatches"
        return (
            f"{done}; go on with the same command and --resume"
            if self.folder
            else f"{done}; nothing was kept (no --out)"
        )

    def save(self, state: PassState) -> None:
        """Keep the state for a later start, where the run has a folder. Raises OSError."""
        if self.folder is not None:
            save_state(self.folder, state, self.fingerprint)

    def _prepare(self) -> tuple[PassState, MemoryPlan]:
        tally: Tally = {key: value for fold in self.folds for key, value in fold.empty().items()}
        tally_bytes = sum(t.numel() * t.element_size() for t in tally.values())
        memory = make_memory_plan(self.models, self.folds, self.plan, self.options.batch, tally_bytes)
        state = load_state(self.folder, self.fingerprint) if self.resume and self.folder else None
        return state or PassState(tally, 0, memory.batch, [], []), memory

    def _load(self, groups: Sequence[Sequence[Portion]]) -> Iterator[Batch]:
        return load_batches(
            self.images,
            [[portion.images for portion in group] for group in groups],
            [model.preprocess for model in self.models.values()],
            workers=self._workers(),
            on_bad_image=self.options.on_bad_image,
        )

    def _workers(self) -> int:
        if self.options.workers is not None:
            return self.options.workers
        beside_gpu = min(8, max(1, (os.cpu_count() or 2) - 1))
        return 0 if next(iter(self.models.values())).device.type == "cpu" else beside_gpu

    def _fold(self, group: Sequence[Portion], batch: Batch, forwards: Sequence[Forward], state: PassState) -> None:
        minibatches, keep = self._minibatches(group, batch, state)
        for number, forward in enumerate(forwards):
            images = batch.inputs[number] if len(keep) == len(batch.ids) else batch.inputs[number][keep]
            if len(images):
                forward(images, minibatches)
            state.batch = min(state.batch, forward.batch)
        for minibatch in minibatches:
            for fold in self.folds:
                try:
                    fold.finish(minibatch, state.tally)
                except NonFinite as error:
                    raise SeelikeError(
                        f"{error}, in minibatch {minibatch.index} (from image {minibatch.first_id} on, seed "
                        f"{self.options.seed}); look at the model's weights and number format, or leave the site out "
                        "with --layers"
                    ) from None
        state.done += len(group)

    def _minibatches(
        self, group: Sequence[Portion], batch: Batch, state: PassState
    ) -> tuple[list[Minibatch], list[int]]:
        """The minibatches of a forward batch after skips, and the rows of the batch that they keep.

        One that skipping left with fewer images than the studies need cannot be used: its images are counted as
        skipped too.
        """
        state.skipped += [(bad.id, bad.reason) for bad in batch.bad]
        minibatches: list[Minibatch] = []
        keep: list[int] = []
        start = 0
        for portion, count in zip(group, batch.minibatch_sizes, strict=True):
            rows = list(range(start, start + count))
            start += count
            if count >= max(1, self.plan.fewest):
                where = tuple(batch.indices[row] for row in rows)
                minibatches.append(
                    Minibatch(portion.index, portion.repeat, portion.group, count, batch.ids[rows[0]], where)
                )
                keep += rows
            else:
                state.skipped += [
                    (batch.ids[i], f"fewer than {self.plan.fewest} images of its minibatch could be read") for i in rows
                ]
        return minibatches, keep

    def _try_to_save(self, state: PassState) -> None:
        try:
            self.save(state)
        except OSError as error:
            self._tell(state)(f"the state of the run could not be saved ({error}); going on, but it cannot be resumed")

    def _tell(self, state: PassState) -> Any:
        def tell(sentence: str) -> None:
            state.notes.append(sentence)
            self.progress.tell(sentence)

        return tell

    def _check_any_left(self, state: PassState) -> None:
        if len(state.skipped) >= self.plan.images:
            name, reason = state.skipped[0]
            raise SeelikeError(
                f"none of the {self.plan.images} images of {self.images.name} could be used ({name}: {reason})"
            )


@contextmanager
def _exact_products() -> Iterator[None]:
    """Full float32 products for the time of a pass, on devices that may be set to round them."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
