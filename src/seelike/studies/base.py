"""What a study is: one question, asked of one or two models, answered by sums over images.

A `Study` is its parameters. `Study.begin` looks at the models and gives a `Fold`: which tensors it needs, how a
minibatch folds into the tally, how the tally becomes results, findings and figures. A tally is a flat dict of
float64 tensors that add, so batches, processes and interrupted runs combine by adding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from torch import Tensor

from seelike.anatomy import Anatomy, LayerSite, Point
from seelike.errors import SeelikeError

Tally = dict[str, Tensor]
Verdict = Literal["holds", "does not hold", "cannot tell"]


@dataclass(frozen=True)
class Samples:
    """What is known of the images beside their pixels.

    Attributes:
        name: of their source; ids: one per image.
        labels: class number per image, None where the source has none; class_names: name of every class number.
        truths: what is known of generated images: indices -> quantity -> (n,) array (`Scenes.truths`); None for others.
        order: per repeat the indices in the order in which the pass shows them; those that cannot be read still in it.
    """

    name: str
    ids: Sequence[str]
    labels: Sequence[int] | None = None
    class_names: Sequence[str] | None = None
    truths: Callable[[Sequence[int]], Mapping[str, np.ndarray]] | None = None
    order: tuple[tuple[int, ...], ...] = ()

    def need_labels(self, study: str) -> Sequence[int]:
        """The labels. Raises `SeelikeError` in the name of `study` when there are none."""
        if self.labels is None:
            raise SeelikeError(
                f"the study {study} needs labels and {self.name} has none; give images with labels: folder:DIR with a "
                "folder for each class, parquet:FILES with a column label, or scenes:test"
            )
        return self.labels


@dataclass(frozen=True)
class Design:
    """How the images of a pass are cut: what a fold must know before the first batch.

    Attributes:
        repeats: fresh random samples of the images, each cut into minibatches anew.
        groups: minibatches of a repeat are dealt to so many groups, for the jackknife.
        largest: images in the largest minibatch (a merged tail makes it larger than the rest).
        minibatch: images in every other one; seed: of the draws.
        samples: what is known of the images.
    """

    repeats: int
    groups: int
    largest: int
    minibatch: int = 64
    seed: int = 0
    samples: Samples = Samples("images", ())


@dataclass(frozen=True)
class Minibatch:
    """One minibatch of the estimator: `size` images, in group `group` of repeat `repeat`.

    `indices` are their places in the source, in the order in which they are shown (images that could not be read are
    left out already).
    """

    index: int
    repeat: int
    group: int
    size: int
    first_id: str
    indices: tuple[int, ...] = ()


@dataclass(frozen=True)
class Reading:
    """Tensors of one model that are looked at together, image by image: skip and branch, queries and keys.

    Attributes:
        name: of the site, for messages.
        points: of the tensors in the model's graph.
        batch_dim: where the images lie in all of them; one image may have several rows there (windows).
    """

    name: str
    points: tuple[Point, ...]
    batch_dim: int = 0


@dataclass(frozen=True)
class Finding:
    """A statement about a result: what was measured, how surely, and whether it bears out a claim.

    Attributes:
        study: name of the study; models: labels of the models that it is about.
        statement: one sentence, with the value in it.
        statistic: the quantity's name; value and error (standard error) are of it.
        claim: what is being tested, or "" for a mere description; verdict is None then.
        paper: what the paper reports for its own models, with its place in it.
    """

    study: str
    models: tuple[str, ...]
    statement: str
    statistic: str
    value: float
    error: float
    claim: str = ""
    verdict: Verdict | None = None
    paper: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The finding as plain data, for `findings.json`."""
        return asdict(self)


def judge(difference: float, error: float, quantile: float) -> Verdict:
    """Whether a difference is above zero, below it, or not told from it at 95 %.

    A difference that is not a number, or has no error (too few minibatches), cannot be told.
    """
    if difference - quantile * error > 0:
        return "holds"
    return "does not hold" if difference + quantile * error < 0 else "cannot tell"


class NonFinite(ArithmeticError):
    """A NaN or an infinity among the activations of `model` at a site."""

    def __init__(self, model: str, site: str, shape: tuple[int, ...]) -> None:
        super().__init__(f"NaN or infinite values in {model} at {site} {shape}")


class Fold(ABC):
    """One study at work in one pass.

    It may ask for layers (`sites`, `see`), whose tensors it gets for a whole minibatch, and for readings
    (`readings`, `read`), which it gets for some images of a minibatch at a time, and which it sums over images.
    """

    notes: list[str]
    """What the user should know: layers left out, values that need a word."""

    def sites(self, model: str) -> Iterable[LayerSite]:
        """The layer sites of `model` whose tensors this fold wants to see."""
        del model
        return ()

    def see(self, model: str, site: LayerSite, tensor: Tensor, minibatch: Minibatch) -> None:
        """Take what is needed from one site's tensor (n, *site.shape) of a whole minibatch; keep no reference to it."""
        raise NotImplementedError(f"{type(self).__name__} asked for layers and cannot see them")

    def readings(self, model: str) -> Iterable[Reading]:
        """The readings of `model` that this fold wants."""
        del model
        return ()

    def read(
        self, model: str, reading: Reading, tensors: tuple[Tensor, ...], minibatch: Minibatch, images: int
    ) -> None:
        """Take what is needed from the raw tensors of a reading for the next `images` images of a minibatch."""
        raise NotImplementedError(f"{type(self).__name__} asked for readings and cannot read them")

    def visits(self, model: str, minibatch: Minibatch) -> bool:
        """Whether this fold wants to run `model` by itself on images of this minibatch (for gradients)."""
        del model, minibatch
        return False

    def visit(self, model: str, inputs: Tensor, minibatch: Minibatch, start: int) -> None:
        """Run the model on preprocessed `inputs` (k, channels, height, width), images `start` on of a minibatch.

        Autograd is off when this is called. k is at most the forward batch; it is halved when memory runs out.
        """
        raise NotImplementedError(f"{type(self).__name__} asked for visits and cannot be visited")

    def forget(self, model: str, minibatch: Minibatch) -> None:
        """Drop what was read of a model's minibatch: it will be shown again, because memory ran out on the way."""
        del model, minibatch

    @abstractmethod
    def empty(self) -> Tally:
        """The tally of no images."""

    @abstractmethod
    def finish(self, minibatch: Minibatch, tally: Tally) -> None:
        """Add a minibatch whose sites have all been seen to the tally, in place. Raises `NonFinite`."""

    @abstractmethod
    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        """Turn a tally into labelled results: path in the result tree -> Dataset."""

    @abstractmethod
    def findings(self, tally: Tally) -> list[Finding]:
        """Say what the tally shows."""

    @abstractmethod
    def held_bytes(self) -> int:
        """What the fold keeps in memory beside the tally, for the memory plan."""


class WeightsFold(Fold):
    """The fold of a study with `needs_images = False`: nothing is folded, all there is to know is in the model."""

    def empty(self) -> Tally:
        """No sums."""
        return {}

    def finish(self, minibatch: Minibatch, tally: Tally) -> None:
        """Nothing: no images are shown to it, and those shown to others do not concern it."""

    def held_bytes(self) -> int:
        """Nothing is held."""
        return 0


class Study(ABC):
    """One question, as a frozen dataclass of its parameters.

    Attributes:
        name: on the command line; question: in a sentence.
        needs_images: False for a study of weights alone, which works without a pass.
        fewest_images: in a minibatch; the unbiased HSIC needs four.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    needs_images: ClassVar[bool] = True
    fewest_images: ClassVar[int] = 4

    @abstractmethod
    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> Fold:
        """Choose the sites in every model (label -> anatomy). Raises `SeelikeError` when there are none."""

    @abstractmethod
    def figures(self, results: xr.DataTree) -> dict[str, Figure]:
        """Draw the study's group of a result tree: file stem -> matplotlib figure."""
