"""CKA of heads with units of another model against how far the heads look: Figure 5 of the paper."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seelike.studies.axes import short_names

GREY = "0.45"
MOST_PANELS = 3
MOST_LINES = 12
"""Layers that are drawn; of more, as many from input to output."""


def draw(results: xr.DataTree) -> dict[str, Figure]:
    """Draw the group `/heads` of a result tree.

    Returns:
        ``heads``: a panel per pair of models, a line per layer of the other model.
    """
    pairs = [node.to_dataset() for model in results["heads"].children.values() for node in model.children.values()]
    columns = min(MOST_PANELS, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(5.2 * columns + 0.6, 4.7 * rows + 0.5), layout="constrained")
    grid = np.array(figure.subplots(rows, columns, squeeze=False)).reshape(-1)
    for axes, pair in zip(grid, pairs, strict=False):
        _panel(axes, pair)
    for axes in grid[len(pairs) :]:
        axes.set_visible(False)
    figure.suptitle("Similarity of heads to another network, by how far they look", fontsize=11)
    return {"heads": figure}


def _panel(axes: Axes, pair: xr.Dataset) -> None:
    about = pair.attrs
    distance = pair["distance"].values
    width = about["t"] if np.isfinite(about["t"]) else 0.0  # too few minibatches for an error
    chosen = np.unique(
        np.linspace(0, pair.sizes["layer"] - 1, min(MOST_LINES, pair.sizes["layer"])).round().astype(int)
    )
    short = short_names([str(name) for name in pair["layer"].values])
    for number, index in enumerate(chosen):
        one = pair.isel(layer=index)
        axes.errorbar(
            distance,
            one["cka"].values,
            width * np.nan_to_num(one["cka_error"].values),
            width * np.nan_to_num(pair["distance_error"].values),
            color=colormaps["viridis"](0.9 * number / max(len(chosen) - 1, 1)),
            marker="o",
            markersize=3,
            linewidth=1.2,
            capsize=2,
            label=f"{short[str(one['layer'].item())]} (rank correlation {one['rank_correlation'].item():+.2f})",
        )
    uniform = float(pair["uniform"])
    axes.axvline(uniform, color=GREY, linestyle="--", linewidth=1, label=f"uniform attention ({uniform:.1f} pixels)")
    size = f"{about['width']} head{'s' if about['width'] > 1 else ''}"
    subsets = "the nearest heads, more and more" if about["subset_rule"] == "nested" else f"subsets of {size}"
    axes.set_xlabel(f"mean attention distance of {subsets} (pixels)\nbars: 95 % interval")
    axes.set_ylabel("CKA")
    axes.set_title(
        f"{about['model']}, {about['attention']}\nwith layers of {about['other_model']}, {about['images']} images",
        fontsize=9,
    )
    axes.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.17))
