"""The labelled result of one model."""

from __future__ import annotations

import numpy as np
import xarray as xr

from seelike.measures.embeddings import Exchanged, components_needed
from seelike.studies.embeddings.look import LEVEL, FilterLook, Look, PositionLook


def embeddings_dataset(model: str, look: Look) -> xr.Dataset:
    """What the embeddings of a model look like; of what it has not there are no variables.

    Filters: ``components`` (component, channel, y, x) of length 1, ``explained`` (rank) share of the variance,
    ``components_90`` how many hold 90 % of it, ``components_90_noise`` how many it takes for noise, with ``_error``.
    Positions: ``position_similarity`` (row, column, other_row, other_column) cosines; ``distance_correlation``,
    ``centre_correlation``, ``row_excess``, ``column_excess``, ``neighbour_share``, each with ``_error``;
    ``neighbour_chance``, ``cosine_same_row``, ``cosine_same_column``, ``cosine_other`` (see
    `seelike.measures.embeddings.PositionStructure`).
    """
    dataset = xr.Dataset()
    if look.filters is not None:
        _add_filters(dataset, look.filters)
    if look.positions is not None:
        _add_positions(dataset, look.positions)
    return dataset.assign_attrs(
        study="embeddings",
        model=model,
        positions=look.reason or "present",
        error="standard deviation when positions are exchanged at random (Mantel), of a share binomial; filters are "
        "known exactly",
    )


def _add_filters(dataset: xr.Dataset, found: FilterLook) -> None:
    dims = ("component", "channel", "y", "x")
    about = {"units": "1", "long_name": "principal components of the filters"}
    dataset["components"] = (dims, found.components.numpy(), about)
    dataset["explained"] = ("rank", found.shares.numpy(), {"units": "1", "long_name": "share of the variance"})
    needed = components_needed(found.shares, LEVEL)
    dataset["components_90"] = ((), needed, {"units": "1", "long_name": "components that hold 90 % of the variance"})
    mean, spread = found.noise
    dataset["components_90_noise"] = ((), mean, {"units": "1", "long_name": "the same of filters of noise"})
    dataset["components_90_noise_error"] = ((), spread, {"units": "1", "long_name": "standard deviation over draws"})
    dataset.attrs.update(
        filters=len(found.patch.filters),
        layer=found.patch.path,
        patches=int(found.patch.cuts),
        stride=list(found.patch.stride),
    )


def _add_positions(dataset: xr.Dataset, found: PositionLook) -> None:
    dims = ("row", "column", "other_row", "other_column")
    about = {"units": "1", "long_name": "cosine of position embeddings"}
    dataset["position_similarity"] = (dims, found.similarity.numpy(), about)
    structure = found.structure
    for name in ("distance_correlation", "centre_correlation", "row_excess", "column_excess", "neighbour_share"):
        each: Exchanged = getattr(structure, name)
        dataset[name] = ((), each.value, {"units": "1"})
        dataset[f"{name}_error"] = ((), each.error, {"units": "1"})
    numbers = {
        "neighbour_chance": structure.neighbour_chance,
        "cosine_same_row": structure.same_row,
        "cosine_same_column": structure.same_column,
        "cosine_other": structure.other,
    }
    for name, value in numbers.items():
        dataset[name] = ((), np.float64(value), {"units": "1"})
    position = found.position
    dataset.attrs.update(
        position_source=list(position.source),
        position_prefix_tokens=position.prefix_tokens,
        width=position.values.shape[2],
    )
