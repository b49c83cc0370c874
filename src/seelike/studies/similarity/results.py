"""The labelled result of one pair of models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from seelike.anatomy import LayerSite
from seelike.measures import best_match, best_split, block_contrast, ends_similarity
from seelike.studies.similarity.estimate import PairEstimate


def pair_dataset(
    estimate: PairEstimate,
    models: tuple[str, str],
    sites: tuple[Sequence[LayerSite], Sequence[LayerSite]],
    *,
    pool: str,
    images: int,
) -> xr.Dataset:
    """CKA of every layer of one model with every layer of another (or of itself), and what is read off it.

    Variables: ``cka`` and ``cka_error`` (layer, other_layer), ``cka_repeat_sd`` when repeated, ``best_match``
    (name of the other model's most similar layer), ``best_match_cka``, ``best_match_depth`` (layer), the same with
    ``other_`` first for the other model's layers. A model with itself has ``ends_similarity``, ``block_split`` and
    ``block_contrast``, each with its error, instead.
    """
    mine, other = (site_coordinates(s, dim) for s, dim in zip(sites, ("layer", "other_layer"), strict=True))
    dataset = xr.Dataset(coords={**mine, **other})
    value, error, spread = estimate.statistic(lambda maps: maps)
    dims = ("layer", "other_layer")
    dataset["cka"] = (dims, value.numpy(), {"units": "1", "long_name": "CKA"})
    dataset["cka_error"] = (dims, error.numpy(), {"units": "1", "long_name": "standard error of CKA"})
    if estimate.maps.shape[0] > 1:
        meaning = "standard deviation of CKA over repeats"
        dataset["cka_repeat_sd"] = (dims, spread.numpy(), {"units": "1", "long_name": meaning})
    if models[0] == models[1]:
        _add_self_statistics(dataset, estimate)
    else:
        _add_best_match(dataset, value, "layer", "other_layer", "")
        _add_best_match(dataset, value.T, "other_layer", "layer", "other_")
    return dataset.assign_attrs(
        study="similarity",
        model=models[0],
        other_model=models[1],
        estimator="minibatch CKA, linear kernel, unbiased HSIC (Song et al. 2012; Nguyen et al. 2021)",
        error="standard error, delete-a-group jackknife over minibatches",
        groups=estimate.groups,
        interval="95 % is value +- t * error",
        t=estimate.quantile,
        pool=pool,
        images=images,
    )


def site_coordinates(sites: Sequence[LayerSite], dim: str) -> dict[str, tuple[str, np.ndarray]]:
    """Coordinates of a dim of layer sites: what each row or column is."""
    prefix = dim.removesuffix("layer")
    return {
        dim: (dim, _text([s.name for s in sites])),
        f"{prefix}module": (dim, _text([", ".join((s.name, *s.aliases)) for s in sites])),
        f"{prefix}block": (dim, _text([s.block or "" for s in sites])),
        f"{prefix}kind": (dim, _text([s.kind for s in sites])),
        f"{prefix}relative_depth": (dim, np.array([s.relative_depth for s in sites])),
        f"{prefix}features": (dim, np.array([int(np.prod(s.shape)) for s in sites])),
    }


def _text(values: list[str]) -> np.ndarray:
    return np.array(values, dtype=object)


def _add_best_match(dataset: xr.Dataset, value: torch.Tensor, dim: str, other: str, prefix: str) -> None:
    index, most = best_match(value)
    names = dataset[other].values[index.numpy()]
    # The depth in the whole model, as in the coordinate: the layers chosen may stop short of its end.
    depth = dataset[f"{other.removesuffix('layer')}relative_depth"].values[index.numpy()]
    undefined = most.isnan().numpy()
    dataset[f"{prefix}best_match"] = (dim, np.where(undefined, "", names).astype(object))
    dataset[f"{prefix}best_match_cka"] = (dim, most.numpy(), {"units": "1"})
    attrs = {"units": "1", "long_name": "relative depth of the best match, 0 first layer, 1 last"}
    dataset[f"{prefix}best_match_depth"] = (dim, np.where(undefined, np.nan, depth), attrs)


def _add_self_statistics(dataset: xr.Dataset, estimate: PairEstimate) -> None:
    layers = estimate.maps.shape[-1]
    if layers < 2:
        return
    ends, ends_error, _ = estimate.statistic(ends_similarity)
    attrs = {"units": "1", "long_name": "mean CKA of the first third of layers with the last third"}
    dataset["ends_similarity"] = ((), float(ends), attrs)
    dataset["ends_similarity_error"] = ((), float(ends_error), {"units": "1"})
    split = best_split(estimate.maps.mean(0))
    contrast, contrast_error, _ = estimate.statistic(lambda maps: block_contrast(maps, split))
    meaning = "first layer of the second part, where cutting in two parts the layers best"
    dataset["block_split"] = ((), str(dataset["layer"].values[split]), {"long_name": meaning})
    attrs = {"units": "1", "long_name": "mean CKA within the two parts minus across"}
    dataset["block_contrast"] = ((), float(contrast), attrs)
    dataset["block_contrast_error"] = ((), float(contrast_error), {"units": "1"})
