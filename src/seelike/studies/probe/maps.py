"""Figure D.4 of the paper: the accuracy that one position alone gives, over the grid."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

PANELS = 6


def draw_maps(data: xr.Dataset) -> Figure:
    """Accuracy of single positions of up to six layers, a colour scale each, since they differ by far."""
    probed = np.flatnonzero(np.isfinite(data["token_accuracy"].values).any(1) & (data["grid_rows"].values > 0))
    chosen = probed[np.unique(np.linspace(0, max(len(probed) - 1, 0), min(PANELS, len(probed))).round().astype(int))]
    figure = Figure(figsize=(2.1 * max(1, len(chosen)) + 0.4, 3.1), layout="constrained")
    for axes, layer in zip(figure.subplots(1, max(1, len(chosen)), squeeze=False)[0], chosen, strict=False):
        row = data.isel(layer=layer)
        rows, columns = int(row["grid_rows"]), int(row["grid_columns"])
        values = 100 * row["token_accuracy"].values[: rows * columns].reshape(rows, columns)
        image = axes.imshow(values, cmap="viridis")
        bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.9, pad=0.03)
        bar.ax.tick_params(labelsize=7)
        axes.set_xticks([])
        axes.set_yticks([])
        error = 100 * float(np.nanmean(row["token_accuracy_error"].values))
        axes.set_title(
            f"{_short(str(row['layer'].values))}\nmean {values.mean():.1f} %, ± {error:.1f} each", fontsize=8
        )
    figure.suptitle(
        f"{data.attrs['model']}: % of images read right from one position alone "
        f"(chance {100 * data.attrs['chance']:.0f} %; colours of each panel apart)",
        fontsize=9,
    )
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 20 else f"…{name[-19:]}"
