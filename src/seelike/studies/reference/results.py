"""The labelled result of one training beside the reference, and what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xarray as xr
from torch import Tensor

from seelike.anatomy import LayerSite
from seelike.studies.base import Finding, judge
from seelike.studies.similarity.estimate import PairEstimate
from seelike.studies.similarity.results import site_coordinates

DATA = (
    "Figure 12, G.1: early blocks are alike with little data already and hardly change in fine-tuning, late ones are "
    "not alike and change"
)


def trend(same: Tensor) -> Tensor:
    """Mean CKA over the last third of the layers minus that over the first, from (..., layers)."""
    third = max(1, same.shape[-1] // 3)
    return same[..., -third:].nanmean(-1) - same[..., :third].nanmean(-1)


def model_dataset(
    estimate: PairEstimate, models: tuple[str, str], sites: Sequence[LayerSite], *, pool: str, images: int
) -> xr.Dataset:
    """CKA of every layer of a model with the same layer of the reference.

    Variables: ``cka``, ``cka_error`` (layer); scalars ``mean`` over layers and ``trend`` (last third minus first), each
    with its error. Coordinates are the reference's layers.
    """
    dataset = xr.Dataset(coords=site_coordinates(sites, "layer"))
    value, error, _ = estimate.statistic(lambda same: same)
    dataset["cka"] = ("layer", value.numpy(), {"units": "1", "long_name": f"CKA with the same layer of {models[0]}"})
    dataset["cka_error"] = ("layer", error.numpy(), {"units": "1", "long_name": "standard error of CKA"})
    meanings = {
        "mean": (lambda same: same.nanmean(-1), "mean CKA over the layers"),
        "trend": (trend, "mean CKA of the last third of the layers minus that of the first"),
    }
    for name, (of, meaning) in meanings.items():
        value, error, _ = estimate.statistic(of)
        dataset[name] = ((), float(value), {"units": "1", "long_name": meaning})
        dataset[f"{name}_error"] = ((), float(error), {"units": "1"})
    return dataset.assign_attrs(
        study="reference",
        model=models[1],
        reference=models[0],
        estimator="minibatch CKA, linear kernel, unbiased HSIC (Song et al. 2012; Nguyen et al. 2021)",
        error="standard error, delete-a-group jackknife over minibatches",
        interval="95 % is value +- t * error",
        t=estimate.quantile,
        pool=pool,
        images=images,
    )


def find(estimates: Mapping[str, PairEstimate], reference: str) -> list[Finding]:
    """For every other model: how like the reference it is, and whether early layers are more so than late ones."""
    return [_trend(model, reference, estimate) for model, estimate in estimates.items()]


def _trend(model: str, reference: str, estimate: PairEstimate) -> Finding:
    mean, mean_error, _ = estimate.statistic(lambda same: same.nanmean(-1))
    value, error, _ = estimate.statistic(trend)
    layers = estimate.maps.shape[-1]
    return Finding(
        "reference",
        (model, reference),
        f"The {layers} layers of {model} have a mean CKA of {float(mean):.3f} ± {float(mean_error):.3f} with the same "
        f"layers of {reference}; the last third of them {float(value):+.3f} ± {float(error):.3f} against the first.",
        "CKA with the same layer, last third minus first",
        float(value),
        float(error),
        claim=f"late layers of {model} are less like {reference}'s than early ones",
        verdict=judge(-float(value), float(error), estimate.quantile),
        paper=DATA,
    )
