"""The labelled result of one model."""

from __future__ import annotations

import numpy as np
import xarray as xr

from seelike.studies.separation.estimate import Separations, best, best_temperature, chance, fixed


def model_dataset(made: Separations) -> xr.Dataset:
    """Soft nearest neighbour losses of one model's layers.

    Variables (layer): ``snnl`` at the fixed temperature, ``snnl_best`` at the best one, each with ``_error``;
    ``temperature_best`` (of scaled distances; infinite where no temperature beats chance); ``baseline`` (scalar), the
    loss of labels that have nothing to do with the layer, with its error; ``snnl_curve`` (layer, temperature).
    """
    sites = made.sites
    coordinates = {
        "layer": ("layer", np.array([s.name for s in sites], dtype=object)),
        "block": ("layer", np.array([s.block or "" for s in sites], dtype=object)),
        "relative_depth": ("layer", np.array([s.relative_depth for s in sites])),
        "temperature": ("temperature", made.grid.numpy()),
    }
    data = xr.Dataset(coords=coordinates)
    words = {
        "snnl": (fixed, "soft nearest neighbour loss at the fixed temperature"),
        "snnl_best": (best(made.grid), "soft nearest neighbour loss at the best temperature of the layer"),
    }
    for name, (statistic, meaning) in words.items():
        value, error = made.estimate(statistic)
        data[name] = ("layer", value.numpy(), {"units": "nat", "long_name": meaning})
        attrs = {"units": "nat", "long_name": f"standard error of {name}"}
        data[f"{name}_error"] = ("layer", error.numpy(), attrs)
    temperature, _ = made.estimate(best_temperature(made.grid))
    attrs = {"units": "1", "long_name": "temperature of the lowest loss, of distances divided by their mean"}
    data["temperature_best"] = ("layer", temperature.numpy(), attrs)
    curve, _ = made.estimate(lambda losses: losses[..., 1:])
    attrs = {"units": "nat", "long_name": "loss by temperature, of distances divided by their mean"}
    data["snnl_curve"] = (("layer", "temperature"), curve.numpy(), attrs)
    level, error = made.estimate(lambda losses: chance(losses).nanmean(-1))
    attrs = {"units": "nat", "long_name": "loss of labels that have nothing to do with the layer"}
    data["baseline"] = ((), float(level), attrs)
    data["baseline_error"] = ((), float(error), {"units": "nat", "long_name": "standard error of baseline"})
    return data.assign_attrs(
        study="separation",
        model=made.model,
        definition="mean over images of -log(share of exp(-distance / T) that falls to others of the class); "
        "paper.md 5.1",
        error="standard error, delete-a-group jackknife over minibatches",
        interval="95 % is value +- t * error",
        t=made.quantile,
    )
