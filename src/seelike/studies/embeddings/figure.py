"""Figure 7 of the ViT paper, left and centre: filters as tiles, similarity of positions as tiles of maps."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

COLUMNS = 7
MOST_TILES = 16
"""Tiles of positions on each side; of finer grids every second, third .. position is shown."""


def draw(results: xr.DataTree) -> dict[str, Figure]:
    """Draw the group `/embeddings` of a result tree.

    Returns:
        ``embeddings-filters-<model>``: principal components of the filters; ``embeddings-positions-<model>``:
        similarity of position embeddings. What a model has not is not drawn.
    """
    figures = {}
    for node in results["embeddings"].children.values():
        dataset = node.to_dataset()
        model = dataset.attrs["model"]
        if "components" in dataset:
            figures[f"embeddings-filters-{model}"] = draw_filters(dataset)
        if "position_similarity" in dataset:
            figures[f"embeddings-positions-{model}"] = draw_positions(dataset)
    return figures


def draw_filters(dataset: xr.Dataset) -> Figure:
    """The first components, each scaled to [0, 1] by itself, with its share of the variance."""
    components = dataset["components"].values  # (k, channels, height, width)
    shares = dataset["explained"].values
    columns = min(COLUMNS, len(components))
    rows = -(-len(components) // columns)
    figure = Figure(figsize=(0.95 * columns + 0.3, 1.12 * rows + 0.7), layout="constrained")
    panels = np.array(figure.subplots(rows, columns, squeeze=False)).reshape(-1)
    for axes in panels:
        axes.set_axis_off()
    for axes, component, share in zip(panels, components, shares, strict=False):
        axes.imshow(_picture(component), cmap="gray", interpolation="nearest")
        axes.set_title(f"{100 * share:.1f} %", fontsize=7, pad=2)
    about = dataset.attrs
    height, width = components.shape[2:]
    kind = "patch embedding" if about["patches"] else "first convolution"
    grey = "" if components.shape[1] in (1, 3) else ", mean over channels"
    figure.suptitle(
        f"{about['model']}: principal components of the {about['filters']} filters\nof the {kind} "
        f"({height} x {width} pixels{grey}), with their share of the variance",
        fontsize=9,
    )
    return figure


def _picture(component: np.ndarray) -> np.ndarray:
    """(channels, height, width) as an RGB or grey image, scaled to [0, 1]."""
    image = np.moveaxis(component, 0, -1) if len(component) == 3 else component.mean(0)
    low, high = image.min(), image.max()
    scaled: np.ndarray = (image - low) / (high - low if high > low else 1.0)
    return scaled


def draw_positions(dataset: xr.Dataset) -> Figure:
    """A tile per patch: the cosine of its position embedding with that of every patch."""
    similarity = dataset["position_similarity"].values  # (rows, columns, rows, columns)
    rows, columns = similarity.shape[:2]
    step = -(-max(rows, columns) // MOST_TILES)
    shown = similarity[::step, ::step]
    others = similarity.reshape(rows * columns, -1)[~np.eye(rows * columns, dtype=bool)]
    low, high = float(others.min()), float(others.max())
    size = 6.0 / max(shown.shape[:2])
    figure = Figure(figsize=(size * shown.shape[1] + 2.0, size * shown.shape[0] + 0.6), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(_tiled(shown), cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
    for side, number, length, label in (
        (axes.xaxis, shown.shape[1], columns, "column of the patch"),
        (axes.yaxis, shown.shape[0], rows, "row of the patch"),
    ):
        ticks = np.arange(number)
        side.set_ticks(ticks * (length + 1) + (length - 1) / 2, labels=[str(i * step + 1) for i in ticks])
        side.set_label_text(label)
    axes.tick_params(length=0, labelsize=7)
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, extend="max")
    bar.set_label("cosine with the position embedding of every other patch")
    some = "" if step == 1 else f" (every {step}th patch)"
    figure.suptitle(
        f"{dataset.attrs['model']}: which positions are embedded alike{some}\n"
        "one tile per patch, laid out as in the image; the patch itself has cosine 1",
        fontsize=9,
    )
    return figure


def _tiled(similarity: np.ndarray) -> np.ndarray:
    """Tiles (r, c, rows, columns) in one picture, with empty lines between them."""
    r, c, rows, columns = similarity.shape
    picture = np.full((r * (rows + 1) - 1, c * (columns + 1) - 1), np.nan)
    for i in range(r):
        for j in range(c):
            top, left = i * (rows + 1), j * (columns + 1)
            picture[top : top + rows, left : left + columns] = similarity[i, j]
    return picture
