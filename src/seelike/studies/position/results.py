"""The labelled result of one model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from seelike.studies.position.estimate import AXES, Explained
from seelike.studies.position.readouts import POOLINGS, TOKEN


def model_dataset(model: str, estimates: Sequence[Explained]) -> xr.Dataset:
    """How well places can be read.

    Variables: ``object_r2`` (layer, pooling, axis), the place of the object from an image's features; ``grid_r2``
    (layer, axis), that of a token from its own; each with ``_error`` and ``_lambda`` (without axis). NaN where there
    is nothing to read from. The axis ``both`` is R^2 over rows and columns together.
    """
    places = list({each.readout.place.site.index: each.readout.place for each in estimates}.values())
    sites = [place.site for place in places]
    data = xr.Dataset(
        coords={
            "layer": ("layer", np.array([s.name for s in sites], dtype=object)),
            "block": ("layer", np.array([s.block or "" for s in sites], dtype=object)),
            "kind": ("layer", np.array([s.layout.kind for s in sites], dtype=object)),
            "relative_depth": ("layer", np.array([s.relative_depth for s in sites])),
            "grid_rows": ("layer", np.array([place.grid[0] for place in places])),
            "grid_columns": ("layer", np.array([place.grid[1] for place in places])),
            "prefix_tokens": ("layer", np.array([place.prefix_tokens for place in places])),
            "pooling": ("pooling", np.array(POOLINGS, dtype=object)),
            "axis": ("axis", np.array(AXES, dtype=object)),
        }
    )
    rows = {site.index: row for row, site in enumerate(sites)}
    values = {name: np.full((len(sites), len(POOLINGS) + 1, len(AXES)), np.nan) for name in ("", "_error")}
    penalties = np.full((len(sites), len(POOLINGS) + 1), np.nan)
    for each in estimates:
        where = rows[each.readout.place.site.index], (*POOLINGS, TOKEN).index(each.readout.source)
        value, error, _ = each.r2.statistic(lambda x: x)
        values[""][where], values["_error"][where], penalties[where] = value.numpy(), error.numpy(), each.penalty
    for suffix, meaning in (("", "R^2"), ("_error", "standard error of R^2")):
        about = {"units": "1", "long_name": f"{meaning} of the object's place, read linearly"}
        data[f"object_r2{suffix}"] = (("layer", "pooling", "axis"), values[suffix][:, :-1], about)
        about = {"units": "1", "long_name": f"{meaning} of a token's own place, read linearly"}
        data[f"grid_r2{suffix}"] = (("layer", "axis"), values[suffix][:, -1], about)
    data["object_lambda"] = (("layer", "pooling"), penalties[:, :-1], {"units": "1"})
    data["grid_lambda"] = ("layer", penalties[:, -1], {"units": "1"})
    pooled = [each for each in estimates if each.readout.source != TOKEN]
    return data.assign_attrs(
        study="position",
        model=model,
        estimator="ridge regression in closed form on standardised features, lambda chosen on held-out images of those "
        "to fit to; R^2 on other images",
        error="standard error, delete-a-group jackknife over the images to evaluate on; the fit is taken as it is",
        groups=estimates[0].r2.groups,
        interval="95 % is value +- t * error",
        t=estimates[0].r2.quantile,
        evaluated_images=pooled[0].examples if pooled else 0,
    )
