"""Figures 11 and 13 of the paper: accuracy against depth, of single tokens and of pooled features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from seelike.studies.probe.maps import draw_maps

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STYLES = {"cls": ("--", "s"), "spatial": ("-", "o")}
"""The mean over all tokens is left out: it hardly differs from that over spatial ones, and lies in the results."""
DODGE = 0.004
"""Models are drawn side by side by so much of the depth, so that their bars do not cover each other."""
WORDS = {"cls": "CLS token", "spatial": "mean of spatial tokens"}


def draw(results: xr.DataTree) -> dict[str, Figure]:
    """Draw the group `/probe` of a result tree.

    Returns:
        ``probe``: accuracy against relative depth, single positions (Figure 11, left) beside pooled features (Figures
        11, right, and 13); ``probe-tokens-<model>``: the accuracy at every position of some layers (D.4).
    """
    if "probe" not in results.children:
        return {}
    datasets = [node.to_dataset() for node in results["probe"].children.values()]
    figures = {"probe": draw_curves(datasets)}
    return figures | {
        f"probe-tokens-{data.attrs['model']}": draw_maps(data) for data in datasets if "token_accuracy" in data
    }


def draw_curves(datasets: Sequence[xr.Dataset]) -> Figure:
    """Accuracy against relative depth of all models."""
    single = [data for data in datasets if "token_mean" in data]
    figure = Figure(figsize=(11.0 if single else 6.4, 5.0), layout="constrained")
    panels = figure.subplots(1, 2 if single else 1, sharey=True, squeeze=False)[0]
    for number, data in enumerate(datasets):
        depth = data["relative_depth"].values + DODGE * (number - (len(datasets) - 1) / 2)
        look = {"color": COLOURS[number % len(COLOURS)], "linewidth": 1.2, "markersize": 3.5}
        if "token_mean" in data:
            _line(panels[0], depth, data, "token_mean", look | {"marker": "o"})
        for pooling in _poolings(data):
            style, marker = STYLES[pooling]
            chosen = data.sel(pooling=pooling)
            _line(panels[-1], depth, chosen, "accuracy", look | {"linestyle": style, "marker": marker})
    for axes in panels:
        _finish(axes, datasets)
    panels[0].set_ylabel("accuracy (% of images read right)")
    if single:
        panels[0].set_title("from one spatial position, mean over positions", fontsize=9)
    panels[-1].set_title("from pooled features", fontsize=9)
    figure.suptitle(f"What a linear classifier reads off each layer\n{_under(datasets[0])}", fontsize=9)
    handles = [_handle(data.attrs["model"], color=COLOURS[i % len(COLOURS)]) for i, data in enumerate(datasets)]
    met = [p for p in STYLES if any(p in _poolings(data) for data in datasets)]
    handles += [_handle(WORDS[p], color="0.3", linestyle=STYLES[p][0], marker=STYLES[p][1]) for p in met]
    handles.append(_handle("chance", color="0.6", linewidth=0.8))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def _poolings(data: xr.Dataset) -> list[str]:
    """Poolings to draw that some layer of a model has."""
    return [p for p in STYLES if np.isfinite(data["accuracy"].sel(pooling=p).values).any()]


def _line(axes: Axes, depth: np.ndarray, data: xr.Dataset, name: str, look: dict[str, Any]) -> None:
    half = np.nan_to_num((data[f"{name}_t"] * data[f"{name}_error"]).values, posinf=0)
    axes.errorbar(depth, 100 * data[name].values, 100 * half, **look, elinewidth=0.7, capsize=1.5)


def _finish(axes: Axes, datasets: Sequence[xr.Dataset]) -> None:
    axes.axhline(100 * datasets[0].attrs["chance"], color="0.6", linewidth=0.8, zorder=0)
    axes.set_xlabel("relative depth (0 input, 1 output)")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 101)
    axes.grid(color="0.92", linewidth=0.6)


def _handle(label: str, **look: Any) -> Line2D:
    return Line2D([], [], label=label, markersize=4, **look)


def _under(data: xr.Dataset) -> str:
    attrs = data.attrs
    of_class = f"{attrs['images_of_a_fit'] // attrs['classes']} per class" if attrs["shots"] else "all data"
    draws = f"{attrs['draws']} draw{'' if attrs['draws'] == 1 else 's'}"
    return (
        f"ridge probes fitted on {attrs['images_of_a_fit']} images ({of_class}, {draws}), evaluated on "
        f"{attrs['images_evaluated']}; bars: 95 % intervals"
    )
