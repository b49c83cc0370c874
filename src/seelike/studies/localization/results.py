"""The labelled result of one model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from torch import Tensor

from seelike.studies.localization.estimate import PARTS, QUANTITIES, LayerEstimate
from seelike.studies.localization.places import Place

MEANINGS = {
    "hit": ("1", "1 where a token's largest CKA is with its own patch"),
    "rank": ("1", "rank of the own patch by CKA, 1 first"),
    "distance": ("pixels", "distance from the own patch to the patch of the largest CKA"),
    "margin": ("1", "CKA with the own patch minus the mean with all others"),
}
MEANS = {"hit": "hit_rate", "rank": "mean_rank", "distance": "mean_distance", "margin": "mean_margin"}


def model_dataset(
    model: str, layers: Iterable[LayerEstimate], source: str, images: int, size: tuple[int, int, int]
) -> xr.Dataset:
    """CKA of tokens with patches, and what is read off it.

    Variables: ``cka`` (layer, token, patch); ``hit``, ``rank``, ``distance``, ``margin`` (layer, token); their means
    ``hit_rate``, ``mean_rank``, ``mean_distance``, ``mean_margin`` (layer, part), each with ``_error`` and (but for
    the margin, where it is 0) ``_chance``. Token t lies in row t // grid_columns; layers of coarser grids end in NaN.
    """
    estimates = list(layers)
    places = [each.place for each in estimates]
    most = max(place.tokens for place in places)
    data = xr.Dataset(coords=_coordinates(places, most))

    def put(name: str, dims: Sequence[str], values: np.ndarray, units: str, meaning: str) -> None:
        data[name] = (dims, values, {"units": units, "long_name": meaning})

    maps = [(each.maps.mean, each.maps.error()) for each in estimates]
    for name, place, meaning in (("cka", 0, "CKA"), ("cka_error", 1, "standard error of CKA")):
        values = np.stack([_padded(found[place].float(), most) for found in maps])
        put(name, ("layer", "token", "patch"), values, "1", meaning)
    per_token = [(each.per_token.mean, each.per_token.error()) for each in estimates]
    means = [(each.readouts.mean, each.readouts.error()) for each in estimates]
    for number, quantity in enumerate(QUANTITIES):
        units, meaning = MEANINGS[quantity]
        for place, suffix, prefix in ((0, "", ""), (1, "_error", "standard error: ")):
            values = np.stack([_padded(found[place][number], most) for found in per_token])
            put(f"{quantity}{suffix}", ("layer", "token"), values, units, prefix + meaning)
            values = np.stack([found[place][number].numpy() for found in means])
            put(f"{MEANS[quantity]}{suffix}", ("layer", "part"), values, units, f"{prefix}mean over tokens: {meaning}")
        if quantity != "margin":
            values = np.stack([each.chance[number].numpy() for each in estimates])
            put(f"{MEANS[quantity]}_chance", ("layer", "part"), values, units, "when every patch is as likely the peak")
    return data.assign_attrs(
        study="localization",
        model=model,
        patches=source,
        estimator="minibatch CKA, linear kernel, unbiased HSIC (Song et al. 2012; Nguyen et al. 2021), of one token "
        "with one patch; prefix tokens left out",
        error="standard error, bootstrap over groups of minibatches: it covers which images were drawn; the tokens of "
        "the grid are all there are",
        groups=estimates[0].maps.groups,
        interval="95 % is value +- t * error",
        t=estimates[0].maps.quantile,
        images=images,
        image_height=size[1],
        image_width=size[2],
    )


def _padded(values: Tensor, most: int) -> np.ndarray:
    """Fill up with NaN to `most` tokens (and patches)."""
    array: np.ndarray = values.numpy()
    widths = [(0, most - side) for side in array.shape]
    return np.pad(array, widths, constant_values=np.nan)


def _coordinates(places: Sequence[Place], most: int) -> dict[str, tuple[str | tuple[str, ...], np.ndarray]]:
    rows, columns = (
        np.stack([np.pad(each, (0, most - len(each)), constant_values=-1) for each in (_where(p)[k] for p in places)])
        for k in (0, 1)
    )
    sites = [place.site for place in places]
    return {
        "layer": ("layer", np.array([s.name for s in sites], dtype=object)),
        "block": ("layer", np.array([s.block or "" for s in sites], dtype=object)),
        "kind": ("layer", np.array([s.layout.kind for s in sites], dtype=object)),
        "relative_depth": ("layer", np.array([s.relative_depth for s in sites])),
        "grid_rows": ("layer", np.array([place.grid[0] for place in places])),
        "grid_columns": ("layer", np.array([place.grid[1] for place in places])),
        "joined": ("layer", np.array([place.factor for place in places])),
        "prefix_tokens": ("layer", np.array([place.prefix_tokens for place in places])),
        "token": ("token", np.arange(most)),
        "patch": ("patch", np.arange(most)),
        "token_row": (("layer", "token"), rows),
        "token_column": (("layer", "token"), columns),
        "part": ("part", np.array(PARTS, dtype=object)),
    }


def _where(place: Place) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.divmod(np.arange(place.tokens), place.grid[1])
    return rows, columns
