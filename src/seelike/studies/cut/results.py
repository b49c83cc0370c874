"""The labelled result of one model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from seelike.anatomy import LayerSite
from seelike.studies.cut.estimate import CutEstimate
from seelike.studies.cut.parts import Cuts
from seelike.studies.similarity.results import site_coordinates

MEANINGS = {
    "within": "mean CKA of layers on the same side of the block",
    "across": "mean CKA of layers on different sides of the block",
    "contrast": "mean CKA within the parts minus across the block",
    "across_change": "CKA across the block, minus that of the whole model",
    "contrast_change": "contrast, minus that of the whole model",
    "accuracy": "share of the images whose class is right",
    "accuracy_change": "accuracy minus that of the whole model, on the same images",
}


def model_dataset(
    model: str,
    estimate: CutEstimate,
    blocks: Sequence[str],
    cuts: Cuts,
    sites: Sequence[LayerSite],
    *,
    images: int,
) -> xr.Dataset:
    """One model: everything of `MEANINGS` with its error, and its map of CKA.

    Dims: ``block`` (of the whole model), ``layer`` and ``other_layer`` of ``cka``. ``is_cut`` (block) says where skips
    are missing. Accuracies are scalars, absent without labels.
    """
    missing = cuts.missing.get(model, ())
    layers, others = (site_coordinates(sites, dim) for dim in ("layer", "other_layer"))
    layers["layer_block"] = layers.pop("block")  # its name is that of the dim of blocks
    coordinates = {
        "block": ("block", np.array(blocks, dtype=object)),
        "is_cut": ("block", np.array([block in missing for block in blocks])),
        **layers,
        "other_layer": others["other_layer"],
    }
    dataset = xr.Dataset(coords=coordinates)
    for name, meaning in MEANINGS.items():
        value = getattr(estimate, name)
        if value is None:
            continue
        dims = ["block"] if value.value.ndim else []
        dataset[name] = (dims, value.value.numpy(), {"units": "1", "long_name": meaning})
        dataset[f"{name}_error"] = (dims, value.error.numpy(), {"units": "1", "long_name": f"standard error of {name}"})
    pair = ("layer", "other_layer")
    dataset["cka"] = (pair, estimate.cka.value.numpy(), {"units": "1", "long_name": "CKA"})
    dataset["cka_error"] = (pair, estimate.cka.error.numpy(), {"units": "1", "long_name": "standard error of CKA"})
    return dataset.assign_attrs(
        study="cut",
        model=model,
        whole_model=cuts.whole,
        cut_blocks=", ".join(missing),
        images=images,
        error="standard error: CKA by delete-a-group jackknife over minibatches, accuracy by counting",
        interval="95 % is value +- t * error",
        t=estimate.quantile,
    )
