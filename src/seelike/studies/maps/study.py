"""The attention maps study: where in a picture a token looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import xarray as xr
from matplotlib.figure import Figure

from seelike.anatomy import Anatomy
from seelike.errors import SeelikeError, close_matches
from seelike.studies.attention.study import placed_attentions
from seelike.studies.base import Design, Samples, Study
from seelike.studies.maps.fold import MapsFold
from seelike.studies.maps.objects import knows_objects
from seelike.studies.maps.view import plan_views

WORDS = ("auto", "cls", "mean")


@dataclass(frozen=True)
class AttentionMaps(Study):
    """Attention maps of single pictures, per block and head, and attention rollout (paper.md 5.7).

    Where it is known what is in the pictures (``scenes:``), the share of attention that falls on the object's box is
    measured over all images.

    Args:
        query: the token that looks: ``cls``, ``mean`` (over all patches), (row, column) of a patch from 0 (of the
            first attention's grid), or the number of a prefix token (0 the class token, others registers and the
            like); ``auto`` is the class token where there is one and the mean where there is none.
        blocks: which attentions, counted from 0 at the input, or from -1 at the output; None for all. Rollout takes
            all in any case.
        images: how many pictures, the first ones shown (they are put in the order of their source); or the ids of
            pictures.

    The results lie at ``/maps/<model>``.
    """

    name: ClassVar[str] = "maps"
    question: ClassVar[str] = "Where in the picture do the heads look? (attention maps and rollout)"
    fewest_images: ClassVar[int] = 1

    query: str | int | tuple[int, int] = "auto"
    blocks: tuple[int, ...] | None = None
    images: int | tuple[str, ...] = 4

    def __post_init__(self) -> None:
        # Lists, and single numbers and words where several are meant, are taken as they are meant.
        for name, single in (("query", ()), ("blocks", int), ("images", str)):
            given: Any = getattr(self, name)
            if isinstance(given, list):
                object.__setattr__(self, name, tuple(given))
            elif single and isinstance(given, single):
                object.__setattr__(self, name, (given,))
        self._check_query()
        if self.blocks == ():
            raise SeelikeError("no blocks are named to draw attention maps of; leave blocks out for all")
        if not self.images or (isinstance(self.images, int) and self.images < 1):
            raise SeelikeError(f"images of the maps study must be at least 1, or ids, not {self.images!r}")

    def _check_query(self) -> None:
        query = self.query
        if isinstance(query, str) and query in WORDS:
            return
        if isinstance(query, int) and not isinstance(query, bool) and query >= 0:
            return
        if isinstance(query, tuple) and len(query) == 2 and all(type(q) is int for q in query):
            return
        near = close_matches(query, WORDS) if isinstance(query, str) else ""
        raise SeelikeError(
            f"query {query!r} of the maps study is none of {', '.join(WORDS)}, a patch (row, column), or the number of "
            f"a prefix token from 0{near}"
        )

    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> MapsFold:
        placed, notes = placed_attentions(anatomies, self.name)
        views = {
            model: plan_views(model, anatomies[model], sites, self.query, self.blocks, notes)
            for model, sites in placed.items()
        }
        chosen = choose_images(self.images, design.samples)
        return MapsFold(anatomies, views, chosen, knows_objects(design.samples), design, notes)

    def figures(self, results: xr.DataTree) -> dict[str, Figure]:
        from seelike.studies.maps.figure import draw

        return draw(results)


def choose_images(wanted: int | tuple[str, ...], samples: Samples) -> tuple[int, ...]:
    """Places in the source of the pictures to keep maps of.

    Raises `SeelikeError` for an id that the source has not (with close matches), or that the pass does not show.
    """
    shown = samples.order[0] if samples.order else tuple(range(len(samples.ids)))
    if isinstance(wanted, int):
        return tuple(sorted(shown[:wanted]))
    place = {name: index for index, name in enumerate(samples.ids)}
    among = set(shown)
    for name in wanted:
        if name not in place:
            raise SeelikeError(f"{samples.name} has no image {name!r}{close_matches(name, place)}")
        if place[name] not in among:
            raise SeelikeError(
                f"the image {name!r} of {samples.name} is not among the {len(shown)} that are shown; leave out --limit"
            )
    return tuple(dict.fromkeys(place[name] for name in wanted))
