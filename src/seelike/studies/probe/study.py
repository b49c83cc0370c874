"""The probe study: what a linear classifier reads off each layer, and off each of its tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import xarray as xr
from matplotlib.figure import Figure

from seelike.anatomy import Anatomy
from seelike.errors import SeelikeError
from seelike.measures.ridge import LAMBDAS
from seelike.studies.base import Design, Study
from seelike.studies.probe.fold import ProbeFold
from seelike.studies.probe.readers import need_scikit_learn
from seelike.studies.probe.split import Split, make_split
from seelike.studies.probe.store import Unit, fitting_tokens
from seelike.studies.probe.views import View, choose_views
from seelike.studies.words import words_of

TOKEN_BYTES = 2 << 30
"""Most memory for the per-token probes of one model; of more layers, as many as fit are taken."""


@dataclass(frozen=True)
class LinearProbe(Study):
    """Accuracy of ridge regression to +-1 targets on the features of each layer (Figures 11, 13 and F; paper.md 2.5).

    The first images that the pass shows fit the probes, the next ones choose lambda, all others are evaluated; no image
    does two of these. All layers, poolings, tokens, lambdas and draws share the forward pass, and repeats of the pass
    are more draws. Features are standardised by the fit and have a bias that is not shrunk. Maps are cut into patches
    that are flattened, so that their width comes near the last stage's, and pooled to its grid.

    Args:
        layers: ``blocks``, ``sublayers``, ``all``, or globs over layer names.
        shots: images per class of a fit (the paper: 10); None fits once on most of the images (`fit_share`).
        draws: fits with different images; not used without `shots`.
        tokens: also probe every spatial token or position of a layer by itself.
        lambdas: ridge penalties to choose from, ascending.
        fit_share: share of the images for fitting when `shots` is None; an eighth of it chooses lambda.
        check: ``logistic`` also fits scikit-learn's logistic regression to the pooled features.

    The results lie at ``/probe/<model>``.
    """

    name: ClassVar[str] = "probe"
    question: ClassVar[str] = "What can a linear classifier read off each layer, and off each token?"
    fewest_images: ClassVar[int] = 1

    layers: str | Sequence[str] = "blocks"
    shots: int | None = 10
    draws: int = 3
    tokens: bool = True
    lambdas: tuple[float, ...] = LAMBDAS
    fit_share: float = 0.8
    check: Literal["none", "logistic"] = "none"

    def __post_init__(self) -> None:
        if not isinstance(self.layers, str):
            object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "lambdas", tuple(map(float, self.lambdas)))
        for name, value in (("shots", self.shots), ("draws", self.draws)):
            if value is not None and value < 1:
                raise SeelikeError(f"probe.{name} must be at least 1, not {value}")
        if not self.lambdas or min(self.lambdas) <= 0 or list(self.lambdas) != sorted(set(self.lambdas)):
            raise SeelikeError(f"probe.lambdas must be positive and ascending, not {self.lambdas}")
        if not 0 < self.fit_share < 1:
            raise SeelikeError(f"probe.fit_share must lie between 0 and 1, not {self.fit_share}")
        if self.check not in ("none", "logistic"):
            raise SeelikeError(f"probe.check is none or logistic, not {self.check!r}")

    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> ProbeFold:
        if self.check == "logistic":
            need_scikit_learn()
        split = make_split(design.samples, self.shots, self.draws, self.fit_share)
        notes: list[str] = []
        words = words_of(self.layers, anatomies)
        views = {model: choose_views(anatomy, words[model], notes) for model, anatomy in anatomies.items()}
        units = {model: self._units(model, each, split, design, notes) for model, each in views.items()}
        return ProbeFold(units, split, self.lambdas, self.shots, design, notes)

    def _units(
        self, model: str, views: Sequence[View], split: Split, design: Design, notes: list[str]
    ) -> tuple[Unit, ...]:
        pooled = [Unit(model, view, "pooled", split, self.check == "logistic") for view in views]
        if not self.tokens:
            return tuple(pooled)
        able = [Unit(model, view, "tokens", split) for view in views if view.tokens]
        if not able:
            raise SeelikeError(
                f"{model}: none of the {len(views)} layers chosen has tokens or positions to probe one by one "
                f"({views[0].site.name} has shape {views[0].site.shape}); set probe.tokens=false, or choose other "
                "layers"
            )
        if len(able) < len(views):
            names = ", ".join(view.site.name for view in views if not view.tokens)
            notes.append(f"{model}: not probed token by token, as it has no positions: {names}")
        taken = fitting_tokens(able, design.repeats, TOKEN_BYTES)
        if len(taken) < len(able):
            names = ", ".join(unit.view.site.name for unit in taken) or "no layer"
            notes.append(
                f"{model}: probes of every token of all {len(able)} layers need more than {TOKEN_BYTES >> 30} GiB; "
                f"tokens are probed one by one at {names}"
            )
        return (*pooled, *taken)

    def figures(self, results: xr.DataTree) -> dict[str, Figure]:
        from seelike.studies.probe.figure import draw

        return draw(results)
