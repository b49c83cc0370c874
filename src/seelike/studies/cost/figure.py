"""Bars of multiply-adds per block, and how the cost grows with the image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from seelike.measures.cost import attention_cost, cost_at
from seelike.studies.axes import short_names
from seelike.studies.cost.findings import WORDS, amount

COLOURS = {
    "projections": "#0072b2",
    "attention": "#d55e00",
    "mlp": "#56b4e9",
    "convolution": "#009e73",
    "other": "#999999",
}
LINES = ("#000000", "#cc79a7", "#e69f00", "#009e73", "#0072b2")
MOST_COLUMNS = 2
SHARED_UP_TO = 5.0
"""Panels share an axis when their highest bars differ by no more than this factor."""


def draw(results: xr.DataTree) -> dict[str, Figure]:
    """Draw the group `/cost` of a result tree.

    Returns:
        ``cost``: multiply-adds of every block, models side by side; ``cost-size``: how they grow with the image.
    """
    datasets = [node.to_dataset() for node in results["cost"].children.values()]
    return {"cost": draw_blocks(datasets), "cost-size": draw_growth(datasets)}


def draw_blocks(datasets: Sequence[xr.Dataset]) -> Figure:
    """Stacked bars per block, by what the multiply-adds are for."""
    columns = min(MOST_COLUMNS, len(datasets))
    rows = -(-len(datasets) // columns)
    figure = Figure(figsize=(5.4 * columns + 0.4, 3.6 * rows + 0.8), layout="constrained")
    highest = [float(d["multiply_adds"].sum("kind").max()) for d in datasets]
    shared = max(highest) <= SHARED_UP_TO * min(highest)
    panels = np.array(figure.subplots(rows, columns, squeeze=False, sharey=shared)).reshape(-1)
    for axes, dataset, top in zip(panels, datasets, highest, strict=False):
        _bars(axes, dataset)
        axes.set_ylim(0, 1.05 * (max(highest) if shared else top) / 1e6)
        axes.tick_params(labelleft=True)
    for axes in panels[len(datasets) :]:
        axes.set_visible(False)
    for axes in panels[: len(datasets) : columns]:
        axes.set_ylabel("million multiply-adds per image")
    present = [kind for kind in COLOURS if any(d["multiply_adds"].sel(kind=kind).sum() > 0 for d in datasets)]
    handles = [Patch(color=COLOURS[kind], label=WORDS[kind]) for kind in present]
    figure.legend(handles=handles, fontsize=8, ncols=len(handles), loc="outside lower center")
    apart = "" if shared or len(datasets) == 1 else " (each model on its own scale)"
    figure.suptitle(f"What the multiply-adds of each block are for{apart}", fontsize=11)
    return figure


def _bars(axes: Axes, dataset: xr.Dataset) -> None:
    names = [str(name) for name in dataset["block"].values]
    inside = [name for name, known in zip(names, dataset["in_block"].values, strict=True) if known]
    short = short_names(inside) | {name: name.strip("()").split()[0] for name in names if name not in inside}
    x, bottom = np.arange(len(names)), np.zeros(len(names))
    for kind, colour in COLOURS.items():
        height = dataset["multiply_adds"].sel(kind=kind).values / 1e6
        axes.bar(x, height, bottom=bottom, color=colour, width=0.8)
        bottom += height
    axes.set_xticks(x, [short[name] for name in names], rotation=90, fontsize=7)
    axes.set_xlim(-0.6, len(names) - 0.4)
    about = dataset.attrs
    size = f"{about['image_height']} x {about['image_width']} pixels"
    sums = f"{amount(about['total'])} multiply-adds, {amount(float(dataset['parameters'].sum()))} parameters"
    axes.set_title(f"{about['model']}\n{sums}, {size}", fontsize=9)


def draw_growth(datasets: Sequence[xr.Dataset]) -> Figure:
    """Left: the whole model against the side of the image. Right: one attention against its tokens."""
    attentive = [d for d in datasets if d["windows"].max() > 0]
    figure = Figure(figsize=(10.4 if attentive else 5.6, 4.4), layout="constrained")
    panels = figure.subplots(1, 2 if attentive else 1, squeeze=False)[0]
    for dataset, colour in zip(datasets, cycle(LINES), strict=False):
        _whole(panels[0], dataset, colour)
        if attentive and dataset["windows"].max() > 0:
            _one_attention(panels[1], dataset, colour)
    panels[0].set(xlabel="side of the image (pixels)", ylabel="multiply-adds per image", xscale="log", yscale="log")
    panels[0].xaxis.set_major_locator(LogLocator(base=2, subs=(1.0, 1.5)))
    panels[0].xaxis.set_major_formatter(ScalarFormatter())
    panels[0].xaxis.set_minor_locator(NullLocator())
    panels[0].set_title(
        "The whole model; dots: as it is\ndashes: the part that grows with the square of the tokens", fontsize=9
    )
    panels[0].legend(fontsize=7)
    if attentive:
        panels[1].set(xlabel="tokens", ylabel="multiply-adds per image and block", xscale="log", yscale="log")
        panels[1].set_title(
            "One attention (the model's last of all tokens)\ndots: as it is; they cross at N = C", fontsize=9
        )
        styles = [
            Line2D([], [], color="0.4", linestyle="-", label="one projection, N C²"),
            Line2D([], [], color="0.4", linestyle="--", label="queries times keys, N² C"),
        ]
        names = [
            Line2D([], [], color=colour, label=f"{d.attrs['model']}, C = {_last(d)['width'].item()}")
            for d, colour in zip(datasets, cycle(LINES), strict=False)
            if d["windows"].max() > 0
        ]
        panels[1].legend(handles=[*styles, *names], fontsize=7)
    figure.suptitle("How the cost grows, by formula", fontsize=11)
    return figure


def _whole(axes: Axes, dataset: xr.Dataset, colour: str) -> None:
    about = dataset.attrs
    side = float(np.sqrt(about["image_height"] * about["image_width"]))
    ratios = np.geomspace(1 / 4, 36, 60)  # of the tokens: half to six times the side
    linear = about["total"] - about["fixed"] - about["quadratic"]
    curve = [cost_at(about["fixed"], linear, about["quadratic"], ratio) for ratio in ratios]
    axes.plot(side * np.sqrt(ratios), curve, color=colour, linewidth=1.4, label=about["model"])
    if about["quadratic"]:
        axes.plot(side * np.sqrt(ratios), about["quadratic"] * ratios**2, color=colour, linewidth=1, linestyle="--")
    axes.plot([side], [about["total"]], color=colour, marker="o", markersize=5)


def _last(dataset: xr.Dataset) -> xr.Dataset:
    """The last attention of all tokens to all, else the last of any, of a model that has one."""
    whole = np.flatnonzero((dataset["windows"].values == 1) & (dataset["queries"].values > 1))
    present = np.flatnonzero(dataset["windows"].values > 0)
    return dataset.isel(block=int((whole if len(whole) else present)[-1]))


def _one_attention(axes: Axes, dataset: xr.Dataset, colour: str) -> None:
    one = _last(dataset)
    width, tokens = int(one["width"]), int(one["queries"])
    numbers = np.geomspace(min(tokens, width) / 4, 8 * max(tokens, width), 50)
    costs = [attention_cost(n, n, width) for n in numbers]
    now = attention_cost(tokens, tokens, width)
    axes.plot(numbers, [cost.query_projection for cost in costs], color=colour, linewidth=1.2)
    axes.plot(numbers, [cost.scores for cost in costs], color=colour, linewidth=1.2, linestyle="--")
    axes.plot([tokens] * 2, [now.query_projection, now.scores], color=colour, marker="o", markersize=5, linestyle="")
