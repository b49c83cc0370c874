"""Draw receptive fields: maps by depth (Figure 6), and their sizes against depth."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLUMNS = 6
"""Maps in a row: the first layer, and as many depths as fit."""


def draw(results: xr.DataTree) -> dict[str, Figure]:
    """Maps after the residual sums and before them, radius by depth, share of the centre patch by depth."""
    if "field" not in results.children:
        return {}
    models = {label: node.to_dataset() for label, node in results["field"].children.items()}
    figures = {"field-maps": _maps(models, "after")}
    if any((data["stage"] == "before").any() for data in models.values()):
        figures["field-maps-branch"] = _maps(models, "before")
    figures["field-radius"] = _against_depth(models, "radius", "radius of the field (pixels)")
    figures["field-centre-share"] = _against_depth(models, "centre_share", "share of the field in its own patch")
    return figures


def _maps(models: dict[str, xr.Dataset], stage: str) -> Figure:
    figure = Figure(figsize=(1.75 * COLUMNS + 0.8, 2.15 * len(models) + 0.7), layout="constrained")
    axes = figure.subplots(len(models), COLUMNS, squeeze=False)
    image = None
    for row, (label, data) in zip(axes, models.items(), strict=True):
        layers = np.flatnonzero(data["stage"].values == stage)
        chosen = layers[np.unique(np.linspace(0, max(len(layers) - 1, 0), COLUMNS).round().astype(int))]
        for place, axis in enumerate(row):
            axis.set_xticks([])
            axis.set_yticks([])
            if place >= len(chosen) or not len(layers):
                axis.set_axis_off()
                continue
            field = data["field"].values[chosen[place]]
            largest = field.max()
            image = axis.imshow(field / largest if largest > 0 else field, vmin=0, vmax=1, cmap="magma")
            axis.set_title(_short(str(data["layer"].values[chosen[place]]).removesuffix(" (branch)")), fontsize=7)
            depth = float(data["relative_depth"].values[chosen[place]])
            axis.set_xlabel(f"depth {depth:.2f}", fontsize=7)
        row[0].set_ylabel(label, fontsize=9)
    if image is not None:
        figure.colorbar(image, ax=axes, label="gradient / its largest", fraction=0.03, pad=0.01)
    where = "after the residual sum" if stage == "after" else "before the residual sum (branch alone)"
    figure.suptitle(f"What the centre of a layer is sensitive to, {where}", fontsize=10)
    return figure


def _against_depth(models: dict[str, xr.Dataset], name: str, label: str) -> Figure:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for number, (model, data) in enumerate(models.items()):
        after = data["stage"].values == "after"
        _line(axes, data.isel(layer=after), name, f"C{number}", "-", f"{model}, after the sum")
        kinds = data["branch_kind"].values
        for kind, line in zip(dict.fromkeys(kinds[~after]), (":", "-.", "--", (0, (1, 4))), strict=False):
            rows = ~after & (kinds == kind)
            _line(axes, data.isel(layer=rows), name, f"C{number}", line, f"{model}, {kind} branch before it")
        if name == "radius":
            _theory(axes, data, f"C{number}", model)
    axes.set_xlabel("relative depth (0 input, 1 output)")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, 1)
    axes.legend(fontsize=7, frameon=False)
    if name == "radius":
        height, width = (models[next(iter(models))].sizes[d] for d in ("row", "column"))
        axes.axhline(((height**2 + width**2) / 12) ** 0.5, color="0.6", linewidth=0.8, linestyle="--")
        axes.annotate(
            "equal everywhere", (0.01, ((height**2 + width**2) / 12) ** 0.5), fontsize=7, color="0.4", va="bottom"
        )
    return figure


def _line(axes: Axes, data: xr.Dataset, name: str, colour: str, line: Any, label: str) -> None:
    axes.errorbar(
        data["relative_depth"],
        data[name],
        yerr=data[f"{name}_error"],
        color=colour,
        linestyle=line,
        marker="o",
        markersize=3,
        linewidth=1.2,
        elinewidth=0.7,
        label=label,
    )


def _theory(axes: Axes, data: xr.Dataset, colour: str, model: str) -> None:
    """The radius that a field would have if it were equal all over the theoretical one."""
    known = (data["stage"].values == "after") & np.isfinite(data["theoretical"].values)
    if known.sum() > 1:
        some = data.isel(layer=known)
        side = np.minimum(some["theoretical"].values, data.sizes["row"])
        axes.plot(some["relative_depth"], side / 6**0.5, color=colour, linestyle="--", linewidth=0.9)
        axes.plot([], [], color=colour, linestyle="--", linewidth=0.9, label=f"{model}, equal in its theoretical field")


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"…{name[-23:]}"
