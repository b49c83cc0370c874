"""Draw localization: maps of chosen tokens (Figures 9 and 10), hits over the grid, hit rate against depth."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from seelike.studies.localization.hits import draw_hits

CHOSEN = ((0, 0), (1 / 3, 1 / 6), (2 / 3, 1 / 3), (2 / 3, 2 / 3))
"""The tokens of Figure 9, as shares of the way to the last row and column: a corner and three inside."""
OWN = "#00e5ff"
MARKERS = "os^Dvx"


def draw(results: xr.DataTree) -> dict[str, Figure]:
    """Draw the group `/localization` of a result tree.

    Returns:
        ``localization-maps``: CKA with all patches of four tokens of the last layers; ``localization-hits``: where on
        the grid tokens resemble their own patch, by depth; ``localization-depth``: hit rate and distance of the peak
        against depth, with chance.
    """
    datasets = [node.to_dataset() for node in results["localization"].children.values()]
    return {
        "localization-maps": _maps(datasets),
        "localization-hits": draw_hits(datasets),
        "localization-depth": _depth(datasets),
    }


def last_layers(data: xr.Dataset) -> list[int]:
    """The last layer, and before it the last one of the finer grid before, where the grid changes."""
    grids = list(zip(data["grid_rows"].values, data["grid_columns"].values, strict=True))
    before = [number for number, grid in enumerate(grids) if grid != grids[-1]]
    return [*before[-1:], len(grids) - 1]


def chosen_tokens(rows: int, columns: int) -> list[tuple[int, int]]:
    """Rows and columns of the four tokens that are drawn."""
    if rows * columns <= len(CHOSEN):
        return [divmod(token, columns) for token in range(rows * columns)]
    return [(round(r * (rows - 1)), round(c * (columns - 1))) for r, c in CHOSEN]


def _maps(datasets: list[xr.Dataset]) -> Figure:
    shown = [(data, number) for data in datasets for number in last_layers(data)]
    figure = Figure(figsize=(2.3 * len(shown) + 0.4, 2.1 * len(CHOSEN) + 1.3), layout="constrained")
    grid = figure.subplots(len(CHOSEN), len(shown), squeeze=False)
    for column, (data, number) in enumerate(shown):
        one = data.isel(layer=number)
        rows, columns = int(one["grid_rows"]), int(one["grid_columns"])
        tokens = chosen_tokens(rows, columns)
        maps = one["cka"].values[: rows * columns, : rows * columns]
        drawn = maps[[r * columns + c for r, c in tokens]]
        finite = drawn[np.isfinite(drawn)]
        low, high = (min(0.0, float(finite.min())), float(finite.max())) if finite.size else (0.0, 1.0)
        image = None
        for axes, (r, c), values in zip(grid[:, column], tokens, drawn, strict=False):
            axes.set_facecolor("#b9c4c9")
            image = axes.imshow(values.reshape(rows, columns), vmin=low, vmax=high, cmap="magma")
            axes.add_patch(Rectangle((c - 0.5, r - 0.5), 1, 1, fill=False, edgecolor=OWN, linewidth=1.6, clip_on=False))
            axes.set_ylabel(f"token ({r}, {c})", fontsize=8)
        for axes in grid[:, column]:
            axes.set_xticks([])
            axes.set_yticks([])
        for axes in grid[len(tokens) :, column]:
            axes.set_axis_off()
        grid[0, column].set_title(f"{data.attrs['model']}\n{one['layer'].item()}", fontsize=9)
        if image is not None:
            bar = figure.colorbar(image, ax=list(grid[:, column]), location="bottom", shrink=0.9, pad=0.01)
            bar.set_label("CKA", fontsize=8)
            bar.ax.tick_params(labelsize=7)
    figure.suptitle(
        f"CKA of single tokens with all patches of the image ({_source(datasets)})\nframe: the token's own patch",
        fontsize=10,
    )
    return figure


def _source(datasets: list[xr.Dataset]) -> str:
    about = datasets[0].attrs
    return f"{'pixels' if about['patches'] == 'pixels' else 'patch embedding'}, {about['images']} images"


PANELS = {
    "hit_rate": (100, "tokens most like their own patch (%)"),
    "mean_distance": (1, "distance of the peak (pixels)"),
    "mean_margin": (1, "CKA with own patch minus mean of others"),
}


def _depth(datasets: list[xr.Dataset]) -> Figure:
    figure = Figure(figsize=(13, 4.3), layout="constrained")
    panels = figure.subplots(1, len(PANELS))
    for axes, (name, (factor, label)) in zip(panels, PANELS.items(), strict=True):
        for number, data in enumerate(datasets):
            _line(axes, data.sel(part="all"), name, number, factor)
        axes.set_ylabel(label)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if name == "mean_margin" else 0)
        axes.set_xlabel("relative depth (0 input, 1 output)")
        axes.set_xlim(0, 1.02)
    panels[0].set_ylim(0, 103)
    panels[0].plot([], [], color="0.4", linestyle=":", linewidth=1.2, label="by chance, in the colour of the model")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.suptitle(
        f"How well tokens can be located by their CKA with patches of the image ({_source(datasets)}; bars: 95 % "
        "intervals; lines break where the grid changes)",
        fontsize=10,
    )
    return figure


def _line(axes: Axes, data: xr.Dataset, name: str, number: int, factor: float) -> None:
    """One model's line; broken where the grid of the layers changes, since the chance level changes with it."""
    depth, values = data["relative_depth"].values, factor * data[name].values
    half = np.nan_to_num(factor * data.attrs["t"] * data[f"{name}_error"].values, posinf=0)
    chance = factor * data[f"{name}_chance"].values if f"{name}_chance" in data else None
    cells = data["grid_rows"].values * data["grid_columns"].values
    colour, marker, width = f"C{number}", MARKERS[number % len(MARKERS)], max(1.2, 3 - number)
    for rows in np.split(np.arange(len(depth)), np.flatnonzero(np.diff(cells)) + 1):
        axes.errorbar(
            depth[rows], values[rows], half[rows], color=colour, marker=marker, markersize=4, linewidth=width, capsize=2
        )
        if chance is not None:
            ends = [depth[rows[0]] - 0.01, *depth[rows], depth[rows[-1]] + 0.01]
            axes.plot(ends, np.pad(chance[rows], 1, mode="edge"), color=colour, linestyle=":", linewidth=1.2)
    pairs = zip(data["grid_rows"].values, data["grid_columns"].values, strict=True)
    grids = ", ".join(dict.fromkeys(f"{rows} x {columns}" for rows, columns in pairs))
    label = f"{data.attrs['model']} ({grids} tokens)"
    axes.plot([], [], color=colour, marker=marker, markersize=4, linewidth=width, label=label)
