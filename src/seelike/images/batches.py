"""Forward batches of decoded, preprocessed images, in the order of a plan whatever the workers do."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from seelike.errors import SeelikeError
from seelike.images.source import BadImage, Images
from seelike.images.tensors import TensorImages

Plan = Sequence[Sequence[Sequence[int]]]
Preprocess = Callable[[Any], Tensor]
OnBadImage = Literal["skip", "stop"]


@dataclass
class Batch:
    """One forward batch: the same n images for every model.

    Attributes:
        ids: n sample ids.
        indices: n places in the source.
        labels: n class numbers, or None where the source has none.
        inputs: for each preprocess a tensor of shape (n, channels, height, width); of shape (0,) when no
            image of the batch could be read.
        minibatch_sizes: how many of the n images belong to each minibatch of the plan, in order; less than
            planned, down to 0, where images were skipped.
        bad: the images that were skipped.
    """

    ids: list[str]
    indices: list[int]
    labels: list[int] | None
    inputs: list[Tensor]
    minibatch_sizes: list[int]
    bad: list[BadImage] = field(default_factory=list)


def load_batches(
    images: Images,
    plan: Plan,
    preprocesses: Sequence[Preprocess],
    *,
    workers: int = 0,
    on_bad_image: OnBadImage = "stop",
) -> Iterator[Batch]:
    """Read the images of the plan, each decoded once and then preprocessed for every model.

    Args:
        images: the source. Of a source of tensors every model gets the tensors as they are.
        plan: forward batches, each a sequence of minibatches, each a sequence of indices.
        preprocesses: one per model: PIL image to float tensor (channels, height, width). One that appears
            twice (the same object) is run once, and its tensor shared.
        workers: processes that decode ahead, two forward batches each; 0 decodes in this process. The
            batches are the same, bit for bit, for any number.
        on_bad_image: "stop" raises the `BadImage`; "skip" leaves the image out for all models and lists it
            in `Batch.bad`.

    Raises:
        BadImage: an image that cannot be read, with "stop".
        SeelikeError: a preprocess that fails (image named) or gives different shapes, workers that die.
    """
    if on_bad_image not in ("skip", "stop"):
        raise SeelikeError(f"on_bad_image is 'skip' or 'stop', not {on_bad_image!r}")
    if isinstance(images, TensorImages):
        workers = 0  # it is all in memory: sending it through a process would only cost
    batches = _start(_Fetcher(images, list(preprocesses), on_bad_image == "skip"), plan, workers)
    try:
        while (batch := next(batches, None)) is not None:
            if isinstance(batch, SeelikeError):
                raise batch
            yield batch
    except RuntimeError as error:
        if not workers or "worker" not in str(error):
            raise
        raise SeelikeError(
            f"a process that decodes images died: {str(error).splitlines()[0]} Memory or shared memory may "
            f"have run out; try smaller batches or fewer workers (--workers 0 uses none)."
        ) from error
    finally:
        # Left to the garbage collector, which an exception's traceback can keep waiting, the workers outlive
        # their use and then take five seconds each to notice.
        shutdown = getattr(batches, "_shutdown_workers", None)
        if shutdown is not None:
            shutdown()


def _start(fetcher: _Fetcher, plan: Plan, workers: int) -> Iterator[Batch | SeelikeError]:
    with warnings.catch_warnings():
        # The number of workers is the user's, and forking beside threads (said from Python 3.12 on) is how
        # torch does it: neither may end a run under `python -W error`.
        warnings.simplefilter("ignore")
        return iter(
            DataLoader(
                fetcher,
                batch_sampler=plan,  # type: ignore[arg-type]  # nested: the fetcher takes a batch whole
                collate_fn=_whole,  # type: ignore[arg-type]
                num_workers=workers,
                worker_init_fn=_begin_worker,
                prefetch_factor=2 if workers else None,
            )
        )


class _Fetcher(Dataset[Any]):
    """Makes a whole forward batch where the DataLoader fetches, so in the worker process."""

    def __init__(self, images: Images, preprocesses: list[Preprocess], skip: bool) -> None:
        self.images = images
        self.preprocesses = preprocesses
        self.skip = skip
        # For each preprocess, the first place of the same object.
        self.first = [next(j for j, other in enumerate(preprocesses) if other is p) for p in preprocesses]
        if images.is_tensor:  # nothing to preprocess: all share one tensor
            self.first = [0] * len(preprocesses)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError("read in whole batches")

    def __getitems__(self, minibatches: Sequence[Sequence[int]]) -> Batch | SeelikeError:
        # Errors go back as values: the DataLoader would raise an imitation of them, with a traceback inside.
        try:
            return self._batch(minibatches)
        except SeelikeError as error:
            return error

    def _batch(self, minibatches: Sequence[Sequence[int]]) -> Batch:
        kept: list[int] = []
        columns: list[list[Tensor]] = [[] for _ in self.preprocesses]
        bad: list[BadImage] = []
        sizes: list[int] = []
        for minibatch in minibatches:
            before = len(kept)
            for index in minibatch:
                try:
                    tensors = self._prepare(index)
                except BadImage as error:
                    bad.append(self._judge(index, error))
                    continue
                kept.append(index)
                for column, tensor in zip(columns, tensors, strict=True):
                    column.append(tensor)
            sizes.append(len(kept) - before)
        ids = [self.images.ids[index] for index in kept]
        labels = self.images.labels
        return Batch(
            ids=ids,
            indices=kept,
            labels=None if labels is None else [labels[index] for index in kept],
            inputs=self._stack(columns, ids),
            minibatch_sizes=sizes,
            bad=bad,
        )

    def _prepare(self, index: int) -> list[Tensor]:
        """Decode one image and preprocess it for every model."""
        image = self.images.read(index)
        if isinstance(image, Tensor):
            return [image] * len(self.preprocesses)
        done: dict[int, Tensor] = {}
        for number in dict.fromkeys(self.first):
            done[number] = _preprocess(self.preprocesses[number], image, self.images.ids[index])
        return [done[number] for number in self.first]

    def _judge(self, index: int, error: BadImage) -> BadImage:
        error.id = error.id or self.images.ids[index]
        if self.skip:
            return error
        raise BadImage(
            f"{error} (source: {self.images.name}). To leave out unreadable images, for all models alike, "
            f"use --on-bad-image skip.",
            error.id,
            error.reason,
        ) from error

    def _stack(self, columns: list[list[Tensor]], ids: list[str]) -> list[Tensor]:
        shared = {number: _stacked(columns[number], ids) for number in dict.fromkeys(self.first)}
        return [shared[number] for number in self.first]


def _preprocess(preprocess: Preprocess, image: Any, sample: str) -> Tensor:
    name = getattr(preprocess, "__name__", type(preprocess).__name__)
    try:
        # Some transforms draw on the image that they get; the next model must not see it.
        tensor = preprocess(image.copy())
    except MemoryError:
        raise
    except Exception as error:
        raise SeelikeError(
            f"the preprocessing '{name}' failed on image '{sample}' ({image.mode}, {image.size[0]} x "
            f"{image.size[1]} px): {error!r}"
        ) from error
    if not isinstance(tensor, Tensor):
        raise SeelikeError(
            f"the preprocessing '{name}' gave a {type(tensor).__name__} for image '{sample}', not a tensor "
            f"(channels, height, width)"
        )
    return tensor


def _stacked(tensors: list[Tensor], ids: list[str]) -> Tensor:
    """Join images, each (channels, height, width), to (n, channels, height, width)."""
    if not tensors:
        return torch.empty(0)
    for tensor, sample in zip(tensors, ids, strict=True):
        if tensor.shape != tensors[0].shape:
            raise SeelikeError(
                f"images of different shapes cannot form a batch: '{sample}' is {tuple(tensor.shape)} after "
                f"preprocessing, '{ids[0]}' is {tuple(tensors[0].shape)}; resize and crop all to one size"
            )
    # As torch.stack, but in a worker it writes straight into the memory shared with the main process.
    stacked: Tensor = default_collate(tensors)
    return stacked


def _whole(batch: Batch | SeelikeError) -> Batch | SeelikeError:
    return batch


def _begin_worker(_: int) -> None:
    # Ctrl-C reaches the whole process group; the main process handles it and ends the workers. (The
    # DataLoader itself sees to one torch thread per worker.)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _without_broken_pipes


def _without_broken_pipes(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # The thread that hands tensors over complains here when the main process stops taking them midway.
    if not isinstance(error, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)
