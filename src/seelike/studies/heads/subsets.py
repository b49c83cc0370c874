"""Subsets of heads, from those that look near to those that look far."""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import Literal

import torch
from torch import Tensor

from seelike.errors import SeelikeError

Rule = Literal["sliding", "disjoint", "nested", "all"]

MOST_SUBSETS = 1000


def subset_width(heads: int, rule: Rule, width: int | None, where: str) -> int:
    """The width meant by None, or the one given where it leaves at least two subsets.

    A quarter of the heads, at least one; for nested subsets, which grow by the width, one.

    Args:
        heads: of the attention; where: model and site, for messages.

    Raises:
        SeelikeError: fewer than two heads, or subsets that are fewer than two or too many.
    """
    if heads < 2:
        raise SeelikeError(f"{where} has one head, so there are no heads to sort; choose another block")
    chosen = (1 if rule == "nested" else max(1, heads // 4)) if width is None else width
    most = heads // 2 if rule == "disjoint" else heads - 1
    if not 1 <= chosen <= most:
        raise SeelikeError(
            f"{where} has {heads} heads: the width of {rule} subsets is 1 to {most}, not {chosen} (heads.width)"
        )
    if rule == "all" and comb(heads, chosen) > MOST_SUBSETS:
        raise SeelikeError(
            f"{where} has {comb(heads, chosen)} subsets of {chosen} of its {heads} heads, more than {MOST_SUBSETS}; "
            "take heads.subset=sliding or a smaller heads.width"
        )
    return chosen


def choose_subsets(distance: Tensor, rule: Rule, width: int) -> Tensor:
    """Which heads are in which subset.

    ``sliding``: `width` heads that follow each other in distance. ``disjoint``: the same without overlap; heads left
    over at the far end are in none. ``nested``: the nearest `width`, 2 `width`, ... heads. ``all``: every choice of
    `width` heads, sorted by mean distance.

    Args:
        distance: (heads,) mean attention distance.

    Returns:
        (subsets, heads) of 0 and 1, float64, from near to far.
    """
    heads = len(distance)
    order = distance.argsort(stable=True).tolist()
    places: list[list[int]]
    if rule == "nested":
        places = [order[:count] for count in range(width, heads + 1, width)]
    elif rule == "all":
        places = [list(each) for each in combinations(order, width)]
        places.sort(key=lambda each: float(distance[each].mean()))
    else:
        step = width if rule == "disjoint" else 1
        places = [order[first : first + width] for first in range(0, heads - width + 1, step)]
    members = torch.zeros(len(places), heads, dtype=torch.float64)
    for row, each in enumerate(places):
        members[row, each] = 1
    return members
