"""The labelled result of one model's receptive fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from torch import Tensor

from seelike.anatomy import Point
from seelike.anatomy.theory import Extents
from seelike.studies.field.targets import Target
from seelike.studies.means import mean_from_sums

LONG_NAMES = {
    "radius": ("pixels", "root mean squared distance of the field's mass from the place, mean over images"),
    "mass_radius": ("pixels", "radius of the disc that holds 90 % of the field's mass, mean over images"),
    "area_radius": (
        "pixels",
        "root of the number of pixels above 4.55 % of the largest (Luo et al.), mean over images",
    ),
    "centre_share": ("1", "share of the field's mass in the place's own patch, mean over images"),
}


def field_dataset(
    model: str,
    targets: Sequence[Target],
    sums: Mapping[str, Tensor],
    theory: Mapping[Point, Extents],
    sizes: Sequence[str],
    projection: str,
    channels: str,
) -> xr.Dataset:
    """Fields and their sizes.

    Variables: ``field`` and ``field_error`` (layer, row, column), mean absolute gradient over images and channels;
    ``radius``, ``mass_radius``, ``area_radius``, ``centre_share`` (layer), each with ``_error``; ``theoretical``
    (layer), side of the theoretical field in pixels where convolutions and poolings alone lead to the layer.
    """
    data = xr.Dataset(coords=_coordinates(targets))
    count = sums["images"].reshape(1)
    fields = mean_from_sums(count[:, None, None, None], sums["sum"][None], sums["square"][None])
    dims = ("layer", "row", "column")
    data["field"] = (
        dims,
        fields.value.float().numpy(),
        {"units": "1 / pixel value", "long_name": "mean absolute gradient"},
    )
    data["field_error"] = (
        dims,
        fields.error.float().numpy(),
        {"units": "1 / pixel value", "long_name": "standard error"},
    )
    each = mean_from_sums(count[:, None, None], sums["sizes"][:1], sums["sizes"][1:])
    for place, name in enumerate(sizes):
        units, long_name = LONG_NAMES[name]
        data[name] = ("layer", each.value[:, place].numpy(), {"units": units, "long_name": long_name})
        data[f"{name}_error"] = ("layer", each.error[:, place].numpy(), {"units": units, "long_name": "standard error"})
    extents = [theory.get(t.point) for t in targets]
    sides = np.array([np.nan if e is None else float(max(e[0].size, e[1].size)) for e in extents])
    data["theoretical"] = ("layer", sides, {"units": "pixels", "long_name": "side of the theoretical field"})
    return data.assign_attrs(
        study="field",
        model=model,
        images=int(count),
        channels=channels,
        projection=projection,
        definition="absolute gradient of the place's features with respect to the preprocessed image, summed over "
        "colours, mean over channels and images (paper.md 2.3)",
        error="standard error over images; it covers the draw of channels, which is another one for every image",
    )


def _coordinates(targets: Sequence[Target]) -> dict[str, tuple[str, np.ndarray]]:
    def text(values: list[str]) -> tuple[str, np.ndarray]:
        return "layer", np.array(values, dtype=object)

    return {
        "layer": text([t.name for t in targets]),
        "block": text([t.block for t in targets]),
        "stage": text([t.stage for t in targets]),
        "branch_kind": text([t.branch_kind for t in targets]),
        "relative_depth": ("layer", np.array([t.relative_depth for t in targets])),
        "grid_rows": ("layer", np.array([t.grid[0] for t in targets])),
        "grid_columns": ("layer", np.array([t.grid[1] for t in targets])),
        "location_row": ("layer", np.array([t.row for t in targets])),
        "location_column": ("layer", np.array([t.column for t in targets])),
    }
