"""Heat maps of CKA as in Figures 1 and 2 of the paper, and the curve of best matches that they are read for."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from seelike.studies.axes import label_layers

COLOURS = "magma"
UNDEFINED = "#b9c4c9"


def draw(results: xr.DataTree) -> dict[str, Figure]:
    """Draw every pair of the group `/similarity` of a result tree.

    Returns:
        ``similarity``: all maps side by side; ``similarity-<a>-<b>``: one map each; ``best-match-<a>-<b>``: how deep
        in one model the layers of the other are matched.
    """
    pairs = list(_pairs(results))
    figures = {f"similarity-{d.attrs['model']}-{d.attrs['other_model']}": draw_map(d) for d in pairs}
    if len(pairs) > 1:
        figures = {"similarity": draw_all(pairs), **figures}
    for dataset in pairs:
        if dataset.attrs["model"] != dataset.attrs["other_model"]:
            figures[f"best-match-{dataset.attrs['model']}-{dataset.attrs['other_model']}"] = draw_best_match(dataset)
    return figures


def _pairs(results: xr.DataTree) -> Iterator[xr.Dataset]:
    for first in results["similarity"].children.values():
        for second in first.children.values():
            yield second.to_dataset()


def draw_map(dataset: xr.Dataset) -> Figure:
    """One heat map, first layers at the lower left, as in the paper."""
    rows, columns = dataset["cka"].shape
    long, short = max(rows, columns), min(rows, columns)
    side = 5.4
    share = max(0.45, short / long)
    width, height = (side, side * share) if columns >= rows else (side * share, side)
    figure = Figure(figsize=(width + 2.2, height + 1.4), layout="constrained")
    axes = figure.add_subplot()
    image = _show(axes, dataset)
    bar = figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02)
    bar.set_label("CKA")
    axes.set_title(f"{_title(dataset)}\n{_under(dataset)}", fontsize=9)
    return figure


def draw_all(pairs: list[xr.Dataset]) -> Figure:
    """All maps of a run side by side on one colour scale."""
    columns = min(3, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    figure = Figure(figsize=(4.2 * columns + 0.8, 4.3 * rows), layout="constrained")
    low = min(0.0, *(float(d["cka"].min()) for d in pairs))
    grid = np.array(figure.subplots(rows, columns, squeeze=False)).reshape(-1)
    for axes, dataset in zip(grid, pairs, strict=False):
        image = _show(axes, dataset, low)
        axes.set_title(_title(dataset), fontsize=9)
    for axes in grid[len(pairs) :]:
        axes.set_visible(False)
    bar = figure.colorbar(image, ax=list(grid), shrink=0.7, pad=0.01)
    bar.set_label("CKA")
    return figure


def _show(axes: Axes, dataset: xr.Dataset, low: float | None = None) -> AxesImage:
    values = dataset["cka"].values
    low = min(0.0, float(np.nanmin(values))) if low is None and not np.isnan(values).all() else (low or 0.0)
    image = axes.imshow(
        values, origin="lower", aspect="auto", interpolation="nearest", cmap=COLOURS, norm=Normalize(low, 1.0)
    )
    axes.set_facecolor(UNDEFINED)
    names, blocks = dataset["layer"].values, dataset["block"].values
    label_layers(axes, "y", list(names), list(blocks), dataset.attrs["model"])
    names, blocks = dataset["other_layer"].values, dataset["other_block"].values
    label_layers(axes, "x", list(names), list(blocks), dataset.attrs["other_model"])
    return image


def _title(dataset: xr.Dataset) -> str:
    a, b = dataset.attrs["model"], dataset.attrs["other_model"]
    return f"{a} with itself" if a == b else f"{a} with {b}"


def _under(dataset: xr.Dataset) -> str:
    error = float(np.nanmedian(dataset["cka_error"])) if not np.isnan(dataset["cka_error"]).all() else math.nan
    text = f"{dataset.attrs['images']} images"
    text += f", median standard error {error:.3f}" if math.isfinite(error) else ", too few minibatches for an error"
    undefined = (
        int(np.isnan(np.diag(dataset["cka"])).sum()) if dataset.attrs["model"] == dataset.attrs["other_model"] else 0
    )
    return text + (f"; grey: {undefined} constant layers" if undefined else "")


def draw_best_match(dataset: xr.Dataset) -> Figure:
    """Relative depth of every layer's best match in the other model, both ways (Figure 2 in one curve)."""
    a, b = dataset.attrs["model"], dataset.attrs["other_model"]
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.75", linewidth=1, label="same pace")
    for prefix, here, there, marker in (("", a, b, "o"), ("other_", b, a, "s")):
        depth = dataset[f"{prefix}relative_depth"].values
        match = dataset[f"{prefix}best_match_depth"].values
        axes.plot(depth, match, marker=marker, markersize=3, linewidth=1, label=f"layers of {here}, matched in {there}")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="relative depth of the layer")
    axes.set_ylabel("relative depth of its best match in the other model")
    axes.set_title(f"Where {a} and {b} match best", fontsize=9)
    axes.legend(fontsize=7)
    return figure
