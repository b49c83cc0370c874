"""From a layer's tensor to the features that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor

from seelike.anatomy import LayerSite, Layout
from seelike.errors import SeelikeError

Pool = Literal["flatten", "cls", "mean", "spatial"]


def check_pool(pool: str) -> None:
    """Raise `SeelikeError` for a pooling that does not exist."""
    if pool not in get_args(Pool):
        raise SeelikeError(f"no pooling named {pool!r}; there are {', '.join(get_args(Pool))}")


def can_pool(layout: Layout, pool: Pool) -> bool:
    """Whether a tensor of this layout can be pooled so.

    ``cls`` needs a prefix token, ``mean`` and ``spatial`` need positions.
    A vector has no positions to average or to choose from, so it stays as it is under both.
    """
    if pool == "flatten":
        return True
    if pool == "cls":
        return layout.kind == "tokens" and layout.prefix_tokens > 0
    return layout.kind != "other"


def pool_features(x: Tensor, layout: Layout, pool: Pool) -> Tensor:
    """Pool (n, ...) to (n, features...).

    ``flatten``: every number of every token, CLS too (the paper's; paper.md 2.1). ``cls``: the first prefix
    token. ``mean``: mean over all tokens or positions. ``spatial``: prefix tokens dropped, the rest flattened.
    """
    if pool == "flatten" or layout.kind == "vector":
        return x
    if pool == "cls":
        return x[:, 0]  # (n, channels)
    if layout.kind == "tokens":
        return x.mean(1) if pool == "mean" else x[:, layout.prefix_tokens :]
    if pool == "spatial":
        return x
    return x.mean((1, 2)) if layout.channels_last else x.mean((2, 3))


def choose_poolable(
    model: str, sites: Sequence[LayerSite], pool: Pool, option: str, notes: list[str]
) -> tuple[LayerSite, ...]:
    """Those of a model's layers that can be pooled so; the others are named in `notes`.

    Args:
        option: how the user says `pool`, for messages.

    Raises:
        SeelikeError: it fits none of them.
    """
    able = tuple(site for site in sites if can_pool(site.layout, pool))
    if not able:
        reason = "has no prefix token" if pool == "cls" else "has no positions"
        raise SeelikeError(
            f"{model}: {option} {pool} fits none of the {len(sites)} layers chosen ({sites[0].name}, shape "
            f"{sites[0].shape}, {reason}); use {option} flatten or mean, or choose other layers"
        )
    if len(able) < len(sites):
        names = ", ".join(site.name for site in sites if site not in able)
        notes.append(f"{model}: left out under {option} {pool}, which does not fit them: {names}")
    return able
