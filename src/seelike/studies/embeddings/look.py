"""What is seen of the embeddings of one model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from seelike.anatomy import Anatomy
from seelike.anatomy.embedding import CannotRead, PatchEmbedding, flow_of, read_patch_embedding
from seelike.anatomy.position import PositionEmbedding, read_position_embedding
from seelike.measures.embeddings import (
    PositionStructure,
    components_of_noise,
    position_similarity,
    position_structure,
    principal_filters,
)

LEVEL = 0.9
"""Share of the variance that components are counted for."""


@dataclass(frozen=True)
class FilterLook:
    """Principal components of the first layer's filters.

    Attributes:
        patch: where they are from; components: (k, channels, height, width) of length 1.
        shares: (r,) of the variance, of all components.
        noise: components that as many filters of noise need for `LEVEL` of the variance: mean and standard deviation.
    """

    patch: PatchEmbedding
    components: Tensor
    shares: Tensor
    noise: tuple[float, float]


@dataclass(frozen=True)
class PositionLook:
    """The position embedding and how alike it is: (rows, columns, rows, columns)."""

    position: PositionEmbedding
    similarity: Tensor
    structure: PositionStructure


@dataclass(frozen=True)
class Look:
    """All that is seen of one model; what it has not is None."""

    filters: FilterLook | None
    positions: PositionLook | None
    reason: str
    """Why there are no positions."""


def look_at(anatomy: Anatomy, components: int, seed: int) -> tuple[Look | None, list[str]]:
    """Look at a model's embeddings; None and the reasons when there is nothing to see."""
    flow = flow_of(anatomy)
    reasons = []
    patch = filters = positions = None
    try:
        patch = read_patch_embedding(anatomy, flow)
        filters = _filters(patch, components, seed)
    except CannotRead as reason:
        reasons.append(f"no filters: {reason}")
    try:
        positions = _positions(read_position_embedding(anatomy, flow, patch.grid if patch else None), seed)
    except CannotRead as reason:
        reasons.append(f"no position embedding: {reason}")
    if filters is None and positions is None:
        return None, reasons
    why = reasons[-1].partition(": ")[2] if positions is None else ""
    return Look(filters, positions, why), reasons


def _filters(patch: PatchEmbedding, count: int, seed: int) -> FilterLook:
    flat = patch.filters.flatten(1)  # (d, channels * height * width)
    if len(flat) < 2 or flat.shape[1] < 2 or not bool(flat.isfinite().all()) or not bool((flat != flat[0]).any()):
        raise CannotRead(f"the {len(flat)} filters of {flat.shape[1]} values in {patch.path} do not vary")
    components, shares = principal_filters(flat, count)
    noise = components_of_noise(len(flat), flat.shape[1], LEVEL, seed)
    return FilterLook(patch, components.reshape(-1, *patch.filters.shape[1:]), shares, noise)


def _positions(position: PositionEmbedding, seed: int) -> PositionLook:
    values = position.values
    name = " + ".join(position.source)
    if min(values.shape[:2]) < 2:
        raise CannotRead(f"{name} has a grid of {values.shape[0]} x {values.shape[1]} patches")
    if not bool(values.isfinite().all()) or bool((values == 0).all(-1).any()):
        raise CannotRead(f"{name} is zero or not finite at some positions, so no cosine exists")
    similarity = position_similarity(values)
    return PositionLook(position, similarity, position_structure(similarity, seed))
