"""The loss over the epochs of one training, from the snapshots that a recipe's `keep` leaves behind."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from seelike.errors import SeelikeError

SNAPSHOT = re.compile(r"(?P<model>.+?)[-@_](?P<epoch>\d{4})(\.safetensors)?")
"""Label of ``run:RUN@10``, or of a model whose weights are ``epochs/0010.safetensors`` of a training's folder."""


def snapshots(datasets: Sequence[xr.Dataset]) -> dict[str, list[tuple[int, xr.Dataset]]]:
    """Datasets of snapshots by model, (epoch, dataset) ascending; models with fewer than two are left out."""
    found: dict[str, list[tuple[int, xr.Dataset]]] = {}
    for data in datasets:
        match = SNAPSHOT.fullmatch(data.attrs["model"])
        if match:
            found.setdefault(match["model"], []).append((int(match["epoch"]), data))
    return {name: sorted(each, key=lambda pair: pair[0]) for name, each in found.items() if len(each) > 1}


def over_training(results: xr.DataTree) -> Figure:
    """Loss at the best temperature against the epoch, one line per layer, coloured by depth.

    The models of the run must be snapshots of a training (``run:RUN@10``), several of each.

    Raises:
        SeelikeError: there are none in these results.
    """
    group = results.children.get("separation")
    found = snapshots([node.to_dataset() for node in group.children.values()] if group is not None else [])
    if not found:
        raise SeelikeError(
            "these results hold no two snapshots of one training; train with --set keep=1 and compare "
            "run:RUN@1, run:RUN@2, ... (docs/results/separation.md shows how)"
        )
    figure = Figure(figsize=(1.2 + 5.2 * len(found), 4.4), layout="constrained")
    colours = colormaps["viridis"]
    for axes, (model, each) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        epochs = [epoch for epoch, _ in each]
        first = each[0][1]
        for layer, depth in enumerate(first["relative_depth"].values):
            values = np.array([data["snnl_best"].values[layer] for _, data in each])
            half = np.array([data.attrs["t"] * data["snnl_best_error"].values[layer] for _, data in each])
            axes.errorbar(
                epochs, values, np.nan_to_num(half, posinf=0), color=colours(float(depth)), marker="o", markersize=3
            )
        axes.axhline(float(first["baseline"]), color="0.6", linewidth=0.9, linestyle="--")
        axes.annotate("labels without meaning", (epochs[0], float(first["baseline"])), fontsize=7, va="bottom")
        axes.set_title(model, fontsize=9)
        axes.set_xlabel("epoch")
        axes.set_ylabel("soft nearest neighbour loss, best temperature (nat)")
        axes.set_ylim(bottom=0)
    figure.colorbar(ScalarMappable(Normalize(0, 1), colours), ax=figure.axes, label="relative depth of the layer")
    figure.suptitle(
        "How mixed the classes lie in each layer\nwhile the network is trained; bars: 95 % intervals", fontsize=9
    )
    return figure
