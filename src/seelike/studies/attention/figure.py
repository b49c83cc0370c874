"""Heads sorted by distance as in Figures 3 and 4 of the paper, and all heads over depth as in the ViT paper."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from seelike.studies.attention.findings import early_blocks

EARLY = ("#08519c", "#6baed6")
"""First block, second block."""
LATE = ("#fd8d3c", "#a63603")
"""Last block but one, last block."""
CONVOLUTION = "#238b45"
STYLES = ("-", "--", ":")
"""Of convolutional models, as many as are drawn."""
GREY = "0.45"
MOST_PANELS = 3


def draw(results: xr.DataTree) -> dict[str, Figure]:
    """Draw the group `/attention` of a result tree.

    Returns:
        ``attention-heads``: heads of the first two and last two blocks of every model, sorted by distance;
        ``attention-depth``: all heads over depth, with the receptive fields of convolutional models of the run.
        Models side by side, with one axis of distances.
    """
    datasets = [node.to_dataset() for node in results["attention"].children.values()]
    return {
        "attention-heads": _side_by_side(
            datasets, _sorted_heads, "How far the heads of the first and last blocks look"
        ),
        "attention-depth": _side_by_side(datasets, _over_depth, "How far all heads look, from input to output"),
    }


def _side_by_side(datasets: list[xr.Dataset], panel: Callable[[Axes, xr.Dataset], None], title: str) -> Figure:
    columns = min(MOST_PANELS, len(datasets))
    rows = -(-len(datasets) // columns)
    figure = Figure(figsize=(4.6 * columns + 0.6, 3.9 * rows + 0.5), layout="constrained")
    # Pixels compare only between images of one size; then they share an axis.
    sizes = {(d.attrs["image_height"], d.attrs["image_width"]) for d in datasets}
    grid = np.array(figure.subplots(rows, columns, squeeze=False, sharey=len(sizes) == 1)).reshape(-1)
    for axes, dataset in zip(grid, datasets, strict=False):
        panel(axes, dataset)
        reach = [_reach(d) for d in datasets] if len(sizes) == 1 else [_reach(dataset)]
        axes.set_ylim(0, 1.08 * max(reach))
        axes.set_title(_title(dataset), fontsize=9)
        axes.tick_params(labelleft=True)
    for axes in grid[len(datasets) :]:
        axes.set_visible(False)
    for axes in grid[: len(datasets) : columns]:
        axes.set_ylabel("mean attention distance (pixels)")
    figure.suptitle(title, fontsize=11)
    return figure


def _reach(dataset: xr.Dataset) -> float:
    """Largest distance that a panel shows."""
    highest = dataset["distance"] + 2 * dataset["distance_error"].fillna(0)
    return max(float(highest.max()), float(dataset["uniform"].max()))


def _title(dataset: xr.Dataset) -> str:
    about = dataset.attrs
    return f"{about['model']}\n{about['images']} images of {about['image_height']} x {about['image_width']} pixels"


def _sorted_heads(axes: Axes, dataset: xr.Dataset) -> None:
    """One line per block, its heads sorted; error bars are 95 % intervals, dashes uniform attention."""
    count = dataset.sizes["block"]
    ends = early_blocks(count)
    chosen = list(range(ends)) + [i for i in range(count - ends, count) if i >= ends]
    colours = [*EARLY[:ends], *LATE[2 - (len(chosen) - ends) :]]
    for index, colour in zip(chosen, colours, strict=True):
        one = dataset.isel(block=index)
        distance, error = one["distance"].values, np.nan_to_num(one["distance_error"].values)
        order = np.argsort(distance)[: int(one["heads"])]  # NaN, no head, sorts last
        rank = np.arange(1, len(order) + 1)
        axes.errorbar(
            rank,
            distance[order],
            1.96 * error[order],
            color=colour,
            marker="o",
            markersize=3,
            linewidth=1.2,
            capsize=2,
            label=f"block {index}: {one['module'].item()}",
        )
    uniform = dataset["uniform"].values[chosen]
    if np.ptp(uniform) < 0.01 * uniform.max():
        axes.axhline(
            uniform[0], color=GREY, linestyle="--", linewidth=1, label=f"uniform attention ({uniform[0]:.1f} pixels)"
        )
    else:  # grids or windows differ: each block has its own
        for value, colour in zip(uniform, colours, strict=True):
            axes.axhline(value, color=colour, linestyle="--", linewidth=1)
        axes.plot([], [], color=GREY, linestyle="--", linewidth=1, label="uniform attention of the block")
    most = int(dataset["heads"].values[chosen].max())
    axes.set_xlim(0.5, most + 0.5)
    axes.set_xticks(np.unique(np.linspace(1, most, min(most, 12)).round().astype(int)))
    axes.set_xlabel("heads of a block, sorted by distance; bars: 95 % interval")
    axes.legend(fontsize=7)


def _over_depth(axes: Axes, dataset: xr.Dataset) -> None:
    """A dot per head over the index of its block, the mean of each block, dashes for uniform attention."""
    distance = dataset["distance"].values  # (blocks, heads)
    blocks = np.arange(len(distance))
    axes.scatter(
        np.repeat(blocks, distance.shape[1]), distance.reshape(-1), s=12, color="#08519c", alpha=0.6, linewidth=0
    )
    axes.plot(blocks, np.nanmean(distance, 1), color="#a63603", linewidth=1.2)
    axes.plot(blocks, dataset["uniform"].values, color=GREY, linestyle="--", linewidth=1, drawstyle="steps-mid")
    axes.set_xlabel("block, from input to output")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = [
        *_convolutions(axes, dataset),
        Line2D([], [], color="#08519c", marker="o", markersize=4, linestyle="", alpha=0.6, label="a head"),
        Line2D([], [], color="#a63603", linewidth=1.2, label="mean of the block's heads"),
        Line2D([], [], color=GREY, linestyle="--", linewidth=1, label="uniform attention"),
    ]
    axes.legend(handles=handles, fontsize=7)


def _convolutions(axes: Axes, dataset: xr.Dataset) -> list[Line2D]:
    """How far convolutional models of the same run could look at the same relative depth; lines leave at the top."""
    lines: list[Line2D] = []
    if "field_radius" not in dataset or dataset.sizes["block"] < 2:
        return lines
    models = dataset["field_model"].values
    for model, style in zip(dict.fromkeys(models), STYLES, strict=False):
        one = dataset.isel(field_layer=models == model)
        lines += axes.plot(
            one["field_depth"].values * (dataset.sizes["block"] - 1),
            one["field_radius"].values,
            color=CONVOLUTION,
            linestyle=style,
            linewidth=1.4,
            label=f"{model}: half the side of the theoretical\nreceptive field, at the same relative depth",
        )
    return lines
