"""Maps of how alike blocks attend, and curves over depth of neighbouring blocks and of heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

COLOURS = "magma"
UNDEFINED = "#b9c4c9"
BLOCKS, HEADS, GREY = "#08519c", "#fd8d3c", "0.45"
MOST_PANELS = 3


def draw(results: xr.DataTree) -> dict[str, Figure]:
    """Draw the group `/attention-similarity` of a result tree.

    Returns:
        ``attention-similarity``: a map of all blocks with all, and under it, over depth, the similarity to the block
        before and that of different heads; models side by side.
    """
    datasets = [node.to_dataset() for node in results["attention-similarity"].children.values()]
    return {"attention-similarity": _draw(datasets)}


def _draw(datasets: list[xr.Dataset]) -> Figure:
    columns = min(MOST_PANELS, len(datasets))
    rows = -(-len(datasets) // columns)
    figure = Figure(figsize=(4.3 * columns + 1, 6.9 * rows), layout="constrained")
    grid = np.array(figure.subplots(2 * rows, columns, squeeze=False, gridspec_kw={"height_ratios": [1.35, 1] * rows}))
    lowest, image = _lowest(datasets), None
    for number in range(rows * columns):
        row, column = divmod(number, columns)
        above, below = grid[2 * row, column], grid[2 * row + 1, column]
        if number >= len(datasets):
            above.set_visible(False)
            below.set_visible(False)
            continue
        image = _map(above, datasets[number], lowest)
        _curves(below, datasets[number], lowest)
    if image is not None:
        bar = figure.colorbar(image, ax=list(grid[::2].reshape(-1)), shrink=0.8, pad=0.01)
        bar.set_label("mean cosine of attention maps")
    figure.suptitle("How alike blocks and heads attend", fontsize=11)
    return figure


def _lowest(datasets: list[xr.Dataset]) -> float:
    """Lower end of the scales, 0 or the tenth below what there is: signed weights (Re-attention) can be opposed."""
    values = [each[name].values for each in datasets for name in ("similarity", "adjacent", "head_similarity_mean")]
    finite = np.concatenate([each[np.isfinite(each)] for each in values])
    return min(0.0, float(np.floor(10 * finite.min(initial=0.0)) / 10))


def _map(axes: Axes, dataset: xr.Dataset, lowest: float) -> AxesImage:
    image = axes.imshow(dataset["similarity"].values, origin="lower", cmap=COLOURS, vmin=lowest, vmax=1)
    axes.set_facecolor(UNDEFINED)
    axes.set(xlabel="block", ylabel="block")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    undefined = bool(dataset["similarity"].isnull().any())
    under = f"{dataset.attrs['images']} images" + ("; grey: maps of different shape" if undefined else "")
    axes.set_title(f"{dataset.attrs['model']}\n{under}", fontsize=9)
    return image


def _curves(axes: Axes, dataset: xr.Dataset, lowest: float) -> None:
    blocks = np.arange(dataset.sizes["block"])
    error = 1.96 * np.nan_to_num(dataset["adjacent_error"].values)
    style: dict[str, Any] = {"marker": "o", "markersize": 3, "linewidth": 1.2}
    axes.errorbar(
        blocks, dataset["adjacent"].values, error, color=BLOCKS, capsize=2, label="with the block before", **style
    )
    axes.plot(blocks, dataset["head_similarity_mean"].values, color=HEADS, label="between heads of the block", **style)
    threshold = dataset.attrs["threshold"]
    share = float(dataset["similar_share"])
    counted = f" ({share:.0%} of blocks above)" if np.isfinite(share) else ""
    axes.axhline(threshold, color=GREY, linestyle="--", linewidth=1, label=f"threshold {threshold:g}{counted}")
    axes.set(
        xlim=(-0.5, len(blocks) - 0.5),
        ylim=(lowest, 1.05),
        xlabel="block, from input to output; bars: 95 % interval",
        ylabel="mean cosine",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=7)
