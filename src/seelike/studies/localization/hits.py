"""Where on the grid tokens resemble their own patch, and where the others look instead."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

COLUMNS = 6
HIT, MISS = "#00e5ff", "white"


def draw_hits(datasets: list[xr.Dataset]) -> Figure:
    """One row per model, its layers from first to last: colour is the margin, dots are hits, lines lead to peaks."""
    figure = Figure(figsize=(2.0 * COLUMNS + 0.9, 2.25 * len(datasets) + 1.1), layout="constrained")
    grid = figure.subplots(len(datasets), COLUMNS, squeeze=False)
    for row, data in zip(grid, datasets, strict=True):
        layers = np.unique(np.linspace(0, data.sizes["layer"] - 1, COLUMNS).round().astype(int))
        margins = data["margin"].values[layers]
        norm = Normalize(min(0.0, float(np.nanmin(margins))), float(np.nanmax(margins)))
        image = None
        for place, axes in enumerate(row):
            axes.set_xticks([])
            axes.set_yticks([])
            if place >= len(layers):
                axes.set_axis_off()
                continue
            image = _draw_layer(axes, data.isel(layer=layers[place]), norm)
        row[0].set_ylabel(data.attrs["model"], fontsize=9)
        if image is not None:
            bar = figure.colorbar(image, ax=list(row), shrink=0.9, pad=0.005)
            bar.set_label("CKA with own patch\nminus mean of others", fontsize=7)
            bar.ax.tick_params(labelsize=7)
    handles = [
        Line2D(
            [],
            [],
            color=HIT,
            marker="o",
            markersize=5,
            linestyle="",
            markeredgecolor="black",
            label="largest CKA is with the own patch",
        ),
        Line2D(
            [], [], color="0.5", linewidth=1.2, label="otherwise: line from the token to the patch of its largest CKA"
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.suptitle("Which tokens resemble their own patch of the image, by depth", fontsize=10)
    return figure


def _draw_layer(axes: Axes, one: xr.Dataset, norm: Normalize) -> AxesImage:
    rows, columns = int(one["grid_rows"]), int(one["grid_columns"])
    tokens = rows * columns
    axes.set_facecolor("#b9c4c9")
    image = axes.imshow(one["margin"].values[:tokens].reshape(rows, columns), cmap="magma", norm=norm)
    maps, hit = one["cka"].values[:tokens, :tokens], one["hit"].values[:tokens]
    counted = np.flatnonzero(np.isfinite(hit))
    hits, misses = counted[hit[counted] >= 0.5], counted[hit[counted] < 0.5]
    y, x = np.divmod(hits, columns)
    axes.scatter(x, y, s=min(20.0, 900 / tokens), color=HIT, edgecolor="black", linewidth=0.4, zorder=3)
    peaks = np.nanargmax(maps[misses], 1) if len(misses) else misses
    ends = [[(a % columns, a // columns), (b % columns, b // columns)] for a, b in zip(misses, peaks, strict=True)]
    axes.add_collection(LineCollection(ends, colors=MISS, linewidths=0.7, alpha=0.8, zorder=2), autolim=False)
    rate = 100 * float(one["hit_rate"].sel(part="all"))
    axes.set_title(f"{_short(one['layer'].item())}: {rate:.0f} %", fontsize=7.5)
    return image


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"…{name[-21:]}"
