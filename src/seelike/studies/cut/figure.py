"""Maps of the whole and the cut models as in Figure 8 of the paper, and similarity across every block."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from seelike.studies.axes import label_layers, short_names

COLOURS = "magma"
CUT = "#00b3a4"


def draw(results: xr.DataTree) -> dict[str, Figure]:
    """Draw the group `/cut`.

    Returns:
        ``cut``: every model's CKA with itself, the cut block between lines; ``cut-across``: similarity across every
        block, of every model.
    """
    models = [each.to_dataset() for each in results["cut"].children.values()]
    return {"cut": draw_maps(models), "cut-across": draw_across(models)}


def draw_maps(models: list[xr.Dataset]) -> Figure:
    """CKA maps on one colour scale, first layers at the lower left."""
    columns = min(4, len(models))
    rows = math.ceil(len(models) / columns)
    figure = Figure(figsize=(3.6 * columns + 0.8, 4.0 * rows), layout="constrained")
    grid = np.array(figure.subplots(rows, columns, squeeze=False)).reshape(-1)
    low = min(0.0, *(float(d["cka"].min()) for d in models))
    for axes, dataset in zip(grid, models, strict=False):
        image = _map(axes, dataset, low)
    for axes in grid[len(models) :]:
        axes.set_visible(False)
    figure.colorbar(image, ax=list(grid), shrink=0.7, pad=0.01).set_label("CKA")
    return figure


def _map(axes: Axes, dataset: xr.Dataset, low: float) -> AxesImage:
    image = axes.imshow(
        dataset["cka"].values, origin="lower", interpolation="nearest", cmap=COLOURS, norm=Normalize(low, 1.0)
    )
    model, cut = dataset.attrs["model"], dataset.attrs["cut_blocks"]
    for which in ("x", "y"):
        label_layers(axes, which, list(dataset["layer"].values), list(dataset["layer_block"].values), model)
    for block in cut.split(", ") if cut else []:
        inside = [i for i, names in enumerate(dataset["module"].values) if _inside(names, block)]
        for edge in (inside[0] - 0.5, inside[-1] + 0.5) if inside else ():
            axes.axhline(edge, color=CUT, linewidth=1)
            axes.axvline(edge, color=CUT, linewidth=1)
    accuracy = f", {100 * float(dataset['accuracy']):.1f} % right" if "accuracy" in dataset else ""
    under = f"no skips in {cut}" if cut else "all skips"
    axes.set_title(f"{model}\n{under}{accuracy}", fontsize=9)
    return image


def _inside(names: str, block: str) -> bool:
    return any(name == block or name.startswith(f"{block}.") for name in names.split(", "))


def draw_across(models: list[xr.Dataset]) -> Figure:
    """Mean CKA of layers on different sides of every block; the cut block of each model is ringed."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for number, dataset in enumerate(models):
        place = np.arange(dataset.sizes["block"])
        value, error = dataset["across"].values, dataset.attrs["t"] * dataset["across_error"].values
        colour = f"C{number}"
        error = np.where(np.isfinite(error), error, 0.0)
        label = dataset.attrs["model"]
        axes.errorbar(place, value, yerr=error, color=colour, marker="o", markersize=3, linewidth=1, label=label)
        cut = dataset["is_cut"].values
        axes.plot(place[cut], value[cut], "o", markersize=11, markerfacecolor="none", color=colour)
    names = [str(name) for name in models[0]["block"].values]
    axes.set_xticks(range(len(names)), [short_names(names)[name] for name in names], rotation=45, fontsize=7)
    axes.set(xlabel="block", ylabel="mean CKA of layers before it with layers after it")
    axes.set_title("Similarity across each block (ringed: the block without skips; bars: 95 %)", fontsize=9)
    axes.legend(fontsize=8)
    return figure
