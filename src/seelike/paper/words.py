"""The words of a reproduction: runs, figures, scales."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import xarray as xr

from seelike.studies import Finding

Claim = Callable[[xr.DataTree, Mapping[str, tuple[str, ...]]], list[Finding]]
"""From the results of a run and the labels of each role to findings."""


@dataclass(frozen=True)
class PaperRun:
    """One pass: which roles see the images, and which studies ask.

    Attributes:
        models: roles of a scale's cast (``vit``, ``resnet``), in order; a role may stand for several models.
        studies: their names; settings: ``STUDY.PARAMETER=VALUE``.
        optional: further roles, for scales that have them, and left out while their models are not trained.
        images: most images, None for those of the scale, 0 for studies of weights alone.
        minibatch: n of the estimators.
        per_class: images of each class that the studies need on average, where that is more than the scale's limit:
            probes take 30 to fit, and others to test, from every class.
    """

    models: tuple[str, ...]
    studies: tuple[str, ...]
    settings: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    images: int | None = None
    minibatch: int = 64
    per_class: int = 0


@dataclass(frozen=True)
class PaperFigure:
    """One figure of the paper, or of a system that it stands on.

    Attributes:
        title: what it shows; paper: what the paper reports, in our words.
        run: name of the run that it is read from; studies: those of the run that it shows.
        stems: globs over the names of the studies' figures, in the order of the page.
        claims: that it tests beside those which the studies' own findings test.
        statistics: of the studies' findings that belong to it; () for all.
        apart: roles that are shown beside the others: findings that compare their models with other ones test
            something that the paper does not say.
    """

    title: str
    paper: str
    run: str
    studies: tuple[str, ...]
    stems: tuple[str, ...]
    claims: tuple[Claim, ...] = ()
    statistics: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scale:
    """Which models play the roles, and what they look at.

    Attributes:
        cast: role -> specs of models. Names without a kind are members of the zoo, or trained by the recipe of that
            name.
        images: spec of the images, None where the user must give them; limit: of them, by default.
        classes: that the images must have, None for any.
        about: one sentence for help and page.
    """

    name: str
    cast: Mapping[str, tuple[str, ...]]
    images: str | None
    limit: int | None
    classes: int | None
    about: str
