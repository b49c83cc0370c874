"""Heat maps of the ratio, token by token (Figure 7, left, and E.1 of the paper)."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, NullFormatter

from seelike.studies.skip.series import series_of

UNDEFINED = "#b9c4c9"
BINS = 64
"""Columns of a row when the residual sums have different maps: each then spans the width."""
MOST_COLUMNS = 600
"""More positions than that cannot be told apart in a picture and are averaged too."""


def draw_tokens(dataset: xr.Dataset) -> Figure:
    """Draw the ratio at every token, one panel per kind of branch (and place in its block), first blocks at the bottom.

    Prefix tokens stand in a strip of their own, wide enough to be seen.
    """
    parts = [(words, dataset.isel(residual=rows)) for words, rows in series_of(dataset)]
    prefixes = [int(part["prefix_tokens"].max()) for _, part in parts]
    figure = Figure(figsize=(4.9 * len(parts) + 1.6, 4.4), layout="constrained")
    widths = [width for prefix in prefixes for width in (*([0.03 + 0.03 * prefix] if prefix else []), 1.0)]
    grid = list(figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0])
    norm, panels = _norm(dataset["ratio"].values), iter(grid)
    for (words, part), prefix in zip(parts, prefixes, strict=True):
        strip = next(panels) if prefix else None
        axes = next(panels)
        if strip is not None:
            image = _show(strip, part["ratio"].values[:, :prefix], norm)
            strip.set_xticks([(prefix - 1) / 2], ["CLS" if prefix == 1 else f"{prefix} prefix\ntokens"], fontsize=8)
        values, same = spatial_columns(part)
        image = _show(axes, values, norm)
        axes.set_title(words, fontsize=9)
        _label_positions(axes, part, same)
        _label_blocks(strip or axes, part)
        if strip is not None:
            axes.set_yticks([])
    bar = figure.colorbar(image, ax=grid, shrink=0.85, pad=0.01)
    bar.set_label("‖skip‖ / ‖branch‖, mean over images")
    if isinstance(norm, LogNorm):
        mark_logarithmic(bar.ax.yaxis)
    figure.suptitle(_title(dataset), fontsize=9)
    return figure


def mark_logarithmic(axis: Axis) -> None:
    """Mark 1, 2, 5, 10, 20, ... in plain numbers; powers of ten only where there are many."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1e4 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _norm(values: np.ndarray) -> Normalize:
    """One scale for all panels; logarithmic where the largest ratio would leave the rest in one colour."""
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return LogNorm(low, high) if high > 10 * low > 0 else Normalize(low, high)


def _show(axes: Axes, values: np.ndarray, norm: Normalize) -> AxesImage:
    axes.set_facecolor(UNDEFINED)
    return axes.imshow(values, origin="lower", aspect="auto", interpolation="nearest", cmap="magma", norm=norm)


def spatial_columns(part: xr.Dataset) -> tuple[np.ndarray, bool]:
    """Ratios at spatial tokens, (residual, column), and whether a column is one token.

    Where the residual sums have different maps, or too many positions, each row is resampled to its own width:
    column i of n shows the positions from i / n to (i + 1) / n of the way from the first row of the map to the last.
    """
    rows = [
        ratio[prefix:tokens]
        for ratio, prefix, tokens in zip(
            part["ratio"].values, part["prefix_tokens"].values, part["tokens"].values, strict=True
        )
    ]
    lengths = {len(row) for row in rows}
    if len(lengths) == 1 and max(lengths) <= MOST_COLUMNS:
        return np.stack(rows), True
    return np.stack([_resample(row) if len(row) else np.full(BINS, np.nan) for row in rows]), False


def _resample(row: np.ndarray) -> np.ndarray:
    edges = np.arange(BINS + 1) * len(row) / BINS
    first, last = np.floor(edges[:-1]).astype(int), np.ceil(edges[1:]).astype(int)
    return np.array([row[i:j].mean() for i, j in zip(first, last, strict=True)])


def _label_positions(axes: Axes, part: xr.Dataset, same: bool) -> None:
    if same:
        axes.set_xlabel("spatial token, row by row" if part["tokens"].max() > 1 else "the whole image")
    else:
        axes.set_xlabel("position in the map, row by row from top left to bottom right")
        axes.set_xticks([-0.5, BINS / 2 - 0.5, BINS - 0.5], ["first", "middle", "last"])


def _label_blocks(axes: Axes, part: xr.Dataset) -> None:
    blocks = part["block_index"].values
    every = -(-len(blocks) // 16)
    axes.set_yticks(range(0, len(blocks), every), [str(b) if b >= 0 else "–" for b in blocks[::every]], fontsize=8)
    axes.set_ylabel("block")


def _title(dataset: xr.Dataset) -> str:
    first = f"{dataset.attrs['model']}: norm of what the skip carries over norm of what the branch adds"
    second = f"{dataset.attrs['images']} images"
    errors = dataset["ratio_error"].values
    if np.isfinite(errors).any():
        second += f"; median standard error {np.nanmedian(errors):.2g}"
    inside = dataset["token"].values < dataset["tokens"].values[:, None]
    if np.isnan(dataset["ratio"].values[inside]).any():
        second += "; grey: the branch is exactly zero"
    return f"{first}\n{second}"
