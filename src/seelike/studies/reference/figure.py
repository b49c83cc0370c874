"""Similarity to the reference by layer, one line per training, as in Figure 12 and G.1 of the paper."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from seelike.studies.axes import short_names

NAMES_UP_TO = 24


def draw(results: xr.DataTree) -> dict[str, Figure]:
    """Draw the group `/reference`: ``reference``, CKA with the same layer of the first model against depth."""
    models = [each.to_dataset() for each in results["reference"].children.values()]
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for dataset in models:
        place = np.arange(dataset.sizes["layer"])
        error = dataset.attrs["t"] * dataset["cka_error"].values
        bars = np.where(np.isfinite(error), error, 0.0)
        label = dataset.attrs["model"]
        axes.errorbar(place, dataset["cka"].values, yerr=bars, marker="o", markersize=3, linewidth=1, label=label)
    names = [str(name) for name in models[0]["layer"].values]
    if len(names) <= NAMES_UP_TO:
        short = short_names(names)
        axes.set_xticks(range(len(names)), [short[name] for name in names], rotation=45, fontsize=7)
    reference = models[0].attrs["reference"]
    axes.set(xlabel="layer", ylabel=f"CKA with the same layer of {reference}")
    low = min(0.0, *(float(dataset["cka"].min()) for dataset in models))
    axes.set_ylim(low - 0.02, 1.02)
    axes.set_title(f"How like {reference} other trainings are (bars: 95 %)", fontsize=9)
    axes.legend(fontsize=8)
    return {"reference": figure}
