"""The labelled result of the heads of one model and the layers of another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from torch import Tensor

from seelike.anatomy import LayerSite
from seelike.studies.heads.estimate import HeadEstimate
from seelike.studies.heads.options import HeadOptions
from seelike.studies.heads.outputs import HeadSite
from seelike.studies.similarity.results import site_coordinates

ESTIMATORS = {
    "heads": "minibatch CKA (unbiased HSIC) of the concatenated A_h V_h of a subset of heads, flattened over tokens",
    "projected": "minibatch CKA (unbiased HSIC) of what a subset of heads adds through the output projection, "
    "flattened over tokens",
}


def heads_dataset(
    estimate: HeadEstimate,
    models: tuple[str, str],
    site: HeadSite,
    layers: Sequence[LayerSite],
    uniform: float,
    study: HeadOptions,
    images: Tensor,
) -> xr.Dataset:
    """Subsets of heads, from those that look near to those that look far.

    Variables: ``cka`` and ``cka_error`` (subset, layer); ``distance`` and ``distance_error`` (subset), pixels;
    ``rank_correlation`` (layer), Spearman's of distance and CKA over subsets, and ``near_minus_far`` (layer), CKA of
    the first subset minus that of the last, each with ``_error``; ``member`` (subset, head); ``head_distance`` and
    ``head_distance_error`` (head); ``uniform``, the distance of uniform attention. Errors are standard errors.
    """
    subsets, heads = estimate.members.shape
    dataset = xr.Dataset(
        coords={"subset": np.arange(subsets), "head": np.arange(heads), **site_coordinates(layers, "layer")}
    )

    def put(name: str, dims: str, found: tuple[Tensor, Tensor], units: str, meaning: str) -> None:
        for suffix, values, words in (("", found[0], meaning), ("_error", found[1], f"standard error of {meaning}")):
            dataset[name + suffix] = (dims.split(), values.numpy(), {"units": units, "long_name": words})

    put("cka", "subset layer", estimate.cka(), "1", "CKA of the subset of heads with the layer")
    put("distance", "subset", estimate.distance(), "pixels", "mean attention distance of the subset's heads")
    meaning = "Spearman's correlation of distance and CKA over subsets"
    put("rank_correlation", "layer", estimate.rank_correlation(), "1", meaning)
    meaning = "CKA of the nearest subset minus that of the farthest"
    put("near_minus_far", "layer", estimate.near_minus_far(), "1", meaning)
    found = (estimate.heads.mean, estimate.heads.error)
    put("head_distance", "head", found, "pixels", "mean attention distance of the head")
    dataset["member"] = (("subset", "head"), estimate.members.bool().numpy(), {"long_name": "head is in the subset"})
    meaning = "mean attention distance of uniform attention"
    dataset["uniform"] = ((), uniform, {"units": "pixels", "long_name": meaning})
    attention = site.placed.site
    return dataset.assign_attrs(
        study="heads",
        model=models[0],
        other_model=models[1],
        attention=attention.name,
        block=study.block,
        subset_rule=study.subset,
        width=int(estimate.members[0].sum()),
        of=study.of,
        renormalize=int(study.renormalize),
        estimator=ESTIMATORS[study.of],
        error="standard error, delete-a-group jackknife over minibatches; of head_distance over images; of "
        "rank_correlation its spread over draws with the jackknife's covariance",
        groups=estimate.table.groups,
        interval="95 % is value +- t * error",
        t=estimate.table.quantile,
        images=int(images.sum(1).max()),
    )
