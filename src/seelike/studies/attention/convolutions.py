"""How far convolutions reach, to be seen beside how far heads look (paper.md 5.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from seelike.anatomy import Anatomy
from seelike.anatomy.theory import theoretical_fields


@dataclass(frozen=True)
class ConvolutionalField:
    """Theoretical receptive field of one layer of a convolutional model.

    Attributes:
        model: label; layer: name of the layer; relative_depth: 0 at the input, 1 at the output.
        radius: half the side of the field in pixels, mean of height and width. It may exceed the image.
    """

    model: str
    layer: str
    relative_depth: float
    radius: float


Fields = Mapping[tuple[int, int], Sequence[ConvolutionalField]]


def convolutional_fields(anatomies: Mapping[str, Anatomy]) -> dict[tuple[int, int], list[ConvolutionalField]]:
    """Fields of the first layer and of the blocks of models (label -> anatomy), by height and width of their image.

    What group norms let every position see of all others is overlooked, as usual.
    """
    found: dict[tuple[int, int], list[ConvolutionalField]] = {}
    for model, anatomy in anatomies.items():
        extents = theoretical_fields(anatomy, through_norms=True)
        known = [layer for layer in anatomy.layers if layer.point in extents]
        for layer in known:
            if layer is known[0] or layer.is_block_output:
                rows, columns = extents[layer.point]
                field = ConvolutionalField(model, layer.name, layer.relative_depth, (rows.size + columns.size) / 4)
                found.setdefault(anatomy.input_size[1:], []).append(field)
    return found


def add_fields(dataset: xr.Dataset, fields: Sequence[ConvolutionalField]) -> xr.Dataset:
    """Add ``field_radius`` (field_layer) in pixels, with the coordinates ``field_model`` and ``field_depth``."""
    if not fields:
        return dataset
    about = {
        "units": "pixels",
        "long_name": "half the side of the theoretical receptive field of a convolutional layer",
    }
    return dataset.assign(
        field_radius=("field_layer", np.array([each.radius for each in fields]), about)
    ).assign_coords(
        field_layer=("field_layer", np.array([each.layer for each in fields], dtype=object)),
        field_model=("field_layer", np.array([each.model for each in fields], dtype=object)),
        field_depth=("field_layer", np.array([each.relative_depth for each in fields])),
    )
