"""A sheet of panels, with pictures and maps over pictures in them.

Panels are placed by hand: matplotlib's own layouts take seconds for the 150 panels that a sheet may have.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

COLOURS = "inferno"
OPACITY = 0.62
FRAME = "#00e5ff"


@dataclass
class Sheet:
    """Rows and columns of panels `width` inches wide and `width * aspect` high, with names left of column `named`.

    Attributes:
        caption: height for a panel's own title; margin: room for the names of rows.
    """

    title: str
    rows: int
    columns: int
    width: float
    aspect: float
    named: int
    caption: float = 0.19
    margin: float = 0.42
    gap: float = 0.07
    least: float = 5.2
    figure: Figure = field(init=False)

    def __post_init__(self) -> None:
        self.height = self.width * self.aspect
        inner = self.margin + self.columns * (self.width + self.gap) + self.gap
        self.outer = max(inner, self.least)
        self.left = (self.outer - inner) / 2
        lines = textwrap.wrap(self.title, int(13 * self.outer))
        self.top, self.bottom = 0.15 + 0.17 * len(lines), 0.62
        self.tall = self.top + self.rows * (self.height + self.caption) + self.bottom
        self.figure = Figure(figsize=(self.outer, self.tall))
        self.figure.text(0.5, 1 - 0.1 / self.tall, "\n".join(lines), fontsize=10, ha="center", va="top")

    def panel(self, row: int, column: int, caption: str) -> Axes:
        """An empty panel with its title."""
        left = self.left + self.gap + column * (self.width + self.gap) + self.margin * (column >= self.named)
        low = self.tall - self.top - (row + 1) * (self.height + self.caption)
        place = (left / self.outer, low / self.tall, self.width / self.outer, self.height / self.tall)
        axes = self.figure.add_axes(place)
        axes.set_axis_off()
        axes.set_title(caption, fontsize=6.5, pad=2)
        return axes

    def name_row(self, row: int, name: str) -> None:
        """Write a row's name upwards, left of its panels."""
        left = self.left + self.gap + self.named * (self.width + self.gap) + self.margin - 0.05
        middle = self.tall - self.top - (row + 1) * (self.height + self.caption) + self.height / 2
        place = (left / self.outer, middle / self.tall)
        self.figure.text(*place, name, rotation=90, fontsize=6.5, ha="right", va="center")

    def legend(self, more: str = "") -> None:
        """The scale of colours below all panels."""
        width = min(0.7 * self.outer, 5.0)
        place = ((self.outer - width) / 2 / self.outer, 0.43 / self.tall, width / self.outer, 0.09 / self.tall)
        bar = self.figure.colorbar(
            ScalarMappable(cmap=COLOURS), cax=self.figure.add_axes(place), orientation="horizontal"
        )
        bar.set_ticks([0, 0.5, 1], labels=["0", "half", "max"])
        bar.ax.tick_params(labelsize=6.5, length=2, pad=1)
        label = f"weight, from 0 to the panel's largest (max, in multiples of uniform attention){more}"
        bar.set_label(textwrap.fill(label, int(19 * self.outer)), fontsize=6.5, labelpad=1)


def draw_picture(axes: Axes, one: xr.Dataset) -> None:
    """The picture as the model was given it."""
    axes.imshow(one["picture"].values)


def draw_over(axes: Axes, one: xr.Dataset, values: np.ndarray, *, smooth: bool) -> None:
    """A map in colours, from 0 to its largest value, over the picture in grey; not where there is no value."""
    grey = one["picture"].values.astype(float).mean(-1)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
    height, width = grey.shape
    axes.imshow(
        np.ma.masked_invalid(values),
        cmap=COLOURS,
        vmin=0,
        vmax=max(float(np.nanmax(values)), np.finfo(float).tiny),
        alpha=OPACITY,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="bilinear" if smooth else "nearest",
    )
    if "query_row" in one.attrs:
        patch = one.attrs["query_patch_height"], one.attrs["query_patch_width"]
        corner = one.attrs["query_column"] * patch[1] - 0.5, one.attrs["query_row"] * patch[0] - 0.5
        axes.add_patch(Rectangle(corner, patch[1], patch[0], fill=False, edgecolor=FRAME, linewidth=1.2))


def largest(values: np.ndarray) -> str:
    """Largest value of a map in multiples of uniform attention, in words."""
    value = float(np.nanmax(values))
    return f"max {value:.1f}×" if value < 99.5 else f"max {value:.0f}×"
