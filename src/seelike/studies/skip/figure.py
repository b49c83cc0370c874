"""Figures 7, E.1 and E.2 of the paper: ratios along the depth, ratios of every token, cosines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seelike.studies.skip.heat import draw_tokens, mark_logarithmic
from seelike.studies.skip.series import series_of

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v")


def draw(results: xr.DataTree) -> dict[str, Figure]:
    """Draw the group `/skip` of a result tree.

    Returns:
        ``skip``: ratios of norms along the depth of all models; ``skip-cosine``: cosines; ``skip-tokens-<model>``:
        the ratio at every token of every block.
    """
    datasets = [node.to_dataset() for node in results["skip"].children.values()]
    figures = {"skip": draw_ratios(datasets), "skip-cosine": draw_cosines(datasets)}
    return figures | {f"skip-tokens-{d.attrs['model']}": draw_tokens(d) for d in datasets}


def draw_ratios(datasets: Sequence[xr.Dataset]) -> Figure:
    """The ratio of norms against the block, branches and kinds of tokens apart (Figure 7, right)."""
    figure = Figure(figsize=(7.6, 5.0), layout="constrained")
    axes = figure.add_subplot()
    _draw_lines(axes, datasets, "ratio")
    axes.axhline(1, color="0.8", linewidth=0.8, zorder=0)
    values = np.concatenate([d[f"ratio_{p}"].values for d in datasets for p in ("prefix", "spatial")])
    values = values[np.isfinite(values) & (values > 0)]
    if len(values) and values.max() > 30 * values.min():
        axes.set_yscale("log")
        mark_logarithmic(axes.yaxis)
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylabel("‖skip‖ / ‖branch‖, mean over tokens and images")
    axes.set_title(f"Norm of what the skip carries over norm of what the branch adds\n{_under(datasets)}", fontsize=9)
    _legend(figure, axes)
    return figure


def draw_cosines(datasets: Sequence[xr.Dataset]) -> Figure:
    """Cosine of the skip with the output, and with the branch (E.2)."""
    figure = Figure(figsize=(10.4, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_lines(left, datasets, "cosine_output")
    _draw_lines(right, datasets, "cosine_branch")
    right.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    left.set_title("cos(skip, skip + branch)\n1: the sum points where the skip did", fontsize=9)
    right.set_title("cos(skip, branch)\n0: the branch writes at right angles; below: against the skip", fontsize=9)
    figure.suptitle(f"Where the output of a residual sum points\n{_under(datasets)}", fontsize=9)
    for axes in (left, right):
        axes.set_ylabel("cosine, mean over tokens and images")
    _legend(figure, left)
    return figure


def _draw_lines(axes: Axes, datasets: Sequence[xr.Dataset], name: str) -> None:
    colours = cycle(COLOURS)
    for dataset, marker in zip(datasets, cycle(MARKERS), strict=False):
        for words, rows in series_of(dataset):
            colour = next(colours)
            for part, style in (("spatial", "-"), ("prefix", "--")):
                if _has(dataset, part, rows):
                    label = f"{dataset.attrs['model']}: {words}{_tokens(dataset, part)}"
                    look = {"color": colour, "linestyle": style, "marker": marker}
                    _draw_line(axes, dataset.isel(residual=rows), f"{name}_{part}", look, label)
    axes.set_xlabel("block")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _has(dataset: xr.Dataset, part: str, rows: np.ndarray) -> bool:
    prefix = dataset["prefix_tokens"].values[rows]
    return bool((prefix > 0).any() if part == "prefix" else (dataset["tokens"].values[rows] > prefix).any())


def _draw_line(axes: Axes, dataset: xr.Dataset, name: str, look: dict[str, Any], label: str) -> None:
    """One line with 95 % intervals; hollow markers where the skip is projected."""
    blocks, y = dataset["block_index"].values, dataset[name].values
    x = blocks if (blocks >= 0).all() else np.arange(len(y))
    half = np.nan_to_num(dataset.attrs["t"] * dataset[f"{name}_error"].values, posinf=0)
    axes.errorbar(x, y, half, **look, linewidth=1.2, markersize=4, capsize=2, label=label)
    hollow = dataset["kind"].values == "projected"
    axes.plot(x[hollow], y[hollow], **(look | {"linestyle": ""}), markerfacecolor="white", markersize=4, zorder=3)


def _tokens(dataset: xr.Dataset, part: str) -> str:
    """What a line says of its tokens, where a model has two kinds of them."""
    prefix = int(dataset["prefix_tokens"].max())
    if part == "prefix":
        return ", CLS" if prefix == 1 else f", {prefix} prefix tokens"
    return ", spatial tokens" if prefix else ""


def _under(datasets: Sequence[xr.Dataset]) -> str:
    projected = any((d["kind"].values == "projected").any() for d in datasets)
    text = f"{datasets[0].attrs['images']} images; bars: 95 % intervals over images"
    return text + ("; hollow: projected skips" if projected else "")


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
