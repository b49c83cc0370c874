"""The soft nearest neighbour loss against depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seelike.studies.separation.over_training import over_training, snapshots

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v")
POOLS = {
    "flatten": "layers flattened",
    "cls": "CLS token",
    "mean": "mean over positions",
    "spatial": "spatial tokens flattened",
}


def draw(results: xr.DataTree) -> dict[str, Figure]:
    """Draw the group `/separation` of a result tree.

    Returns:
        ``separation``: the loss against relative depth of all models, at the best temperature of each layer and at the
        fixed one; ``separation-training``: against the epoch, where models are snapshots of one training.
    """
    if "separation" not in results.children:
        return {}
    datasets = [node.to_dataset() for node in results["separation"].children.values()]
    figures = {"separation": draw_depth(datasets)}
    if snapshots(datasets):
        figures["separation-training"] = over_training(results)
    return figures


def draw_depth(datasets: Sequence[xr.Dataset]) -> Figure:
    """Loss against relative depth; the two temperatures side by side."""
    figure = Figure(figsize=(10.6, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=bool(datasets[0].attrs["scaled"]))
    attrs = datasets[0].attrs
    for axes, name in ((left, "snnl_best"), (right, "snnl")):
        for number, data in enumerate(datasets):
            half = np.nan_to_num(attrs["t"] * data[f"{name}_error"].values, posinf=0)
            look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
            axes.errorbar(
                data["relative_depth"].values,
                data[name].values,
                half,
                **look,
                linewidth=1.2,
                markersize=3.5,
                elinewidth=0.7,
                capsize=1.5,
                label=data.attrs["model"],
            )
        _finish(axes, datasets, ("snnl_best", "snnl") if attrs["scaled"] else (name,))
    left.set_title("at the best temperature of each layer", fontsize=9)
    unit = "x mean distance" if attrs["scaled"] else "in units of the distance"
    right.set_title(f"at temperature {attrs['temperature']:g} ({unit})", fontsize=9)
    left.set_ylabel("soft nearest neighbour loss (nat)")
    figure.suptitle(
        "How mixed the classes lie in each layer: 0 when neighbours are of the same class\n"
        f"{POOLS[attrs['pool']]}; {attrs['images']} images in minibatches of {attrs['minibatch']}; "
        "bars: 95 % intervals",
        fontsize=9,
    )
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return figure


def _finish(axes: Axes, datasets: Sequence[xr.Dataset], names: Sequence[str]) -> None:
    """Axes from zero to above all that is drawn under `names`."""
    baseline = float(datasets[0]["baseline"])
    axes.axhline(baseline, color="0.6", linewidth=0.9, linestyle="--", zorder=0)
    axes.annotate(
        "labels without meaning",
        (0, baseline),
        (3, 2),
        textcoords="offset points",
        color="0.4",
        fontsize=7,
        va="bottom",
    )
    axes.set_xlabel("relative depth (0 input, 1 output)")
    axes.set_xlim(0, 1.02)
    ends = [data[name].values + 2 * data[f"{name}_error"].fillna(0).values for data in datasets for name in names]
    axes.set_ylim(0, 1.08 * max(baseline, *(float(np.nanmax(each, initial=0)) for each in ends)))
    axes.grid(color="0.92", linewidth=0.6)
