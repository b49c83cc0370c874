"""Draw how well places can be read, against depth."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MARKERS = "os^Dvx"
TITLES = {
    "mean": "place of the object,\nfrom the mean over tokens",
    "cls": "place of the object,\nfrom the class token",
    "quarters": "place of the object,\nfrom the means of the four quarters",
    "token": "place of a token on the grid,\nfrom its own features",
}


def draw(results: xr.DataTree) -> dict[str, Figure]:
    """``position-depth``: R^2 against relative depth, one panel per source, one line per model."""
    datasets = [node.to_dataset().sel(axis="both") for node in results["position"].children.values()]
    panels = [name for name in TITLES if any(np.isfinite(_series(data, name)[0]).any() for data in datasets)]
    figure = Figure(figsize=(3.5 * len(panels) + 0.4, 4.3), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, name in zip(grid, panels, strict=True):
        for number, data in enumerate(datasets):
            _line(axes, data, name, number)
        axes.axhline(0, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
        axes.set_title(TITLES[name], fontsize=9)
        axes.set_xlabel("relative depth (0 input, 1 output)")
        axes.set_xlim(0, 1.02)
        axes.tick_params(labelleft=True)
    if len(panels):
        grid[0].set_ylabel("R² on images not fitted to (row and column)")
        grid[0].set_ylim(min(-0.05, grid[0].get_ylim()[0]), 1.03)
    for number, data in enumerate(datasets):
        look = {"color": f"C{number}", "marker": MARKERS[number % len(MARKERS)]}
        grid[0].plot([], [], markersize=4, linewidth=1.3, label=data.attrs["model"], **look)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.suptitle("How well places can be read off features by a linear map; bars: 95 % intervals", fontsize=10)
    return {"position-depth": figure}


def _series(data: xr.Dataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    """R^2 and its error by layer."""
    if name == "token":
        return data["grid_r2"].values, data["grid_r2_error"].values
    one = data.sel(pooling=name)
    return one["object_r2"].values, one["object_r2_error"].values


def _line(axes: Axes, data: xr.Dataset, name: str, number: int) -> None:
    values, errors = _series(data, name)
    known = np.isfinite(values)
    if not known.any():
        return
    half = np.nan_to_num(data.attrs["t"] * errors[known], posinf=0)
    axes.errorbar(
        data["relative_depth"].values[known],
        values[known],
        half,
        color=f"C{number}",
        marker=MARKERS[number % len(MARKERS)],
        markersize=4,
        linewidth=1.3,
        capsize=2,
    )
