"""The labelled result of one model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from seelike.anatomy import Anatomy
from seelike.studies.attention.estimate import ImageMeans
from seelike.studies.attention.results import block_coordinates
from seelike.studies.maps.look import spread
from seelike.studies.maps.objects import Rows
from seelike.studies.maps.pixels import SCALES
from seelike.studies.maps.view import Views


@dataclass(frozen=True)
class Pictures:
    """The chosen pictures of one model.

    `ids`, `maps` (n, views, heads, rows, columns), `rollout` (n, rows, columns) or None, `pixels` (n, height, width, 3)
    between 0 and 1, `scales` (n,) numbers in `SCALES`.
    """

    ids: tuple[str, ...]
    maps: Tensor
    rollout: Tensor | None
    pixels: Tensor
    scales: Tensor


@dataclass(frozen=True)
class Shares:
    """What falls on objects, over all images: `means` of `rows`, and `heads` (views, heads)."""

    rows: Rows
    means: ImageMeans
    heads: ImageMeans


def maps_dataset(model: str, anatomy: Anatomy, views: Views, pictures: Pictures, shares: Shares | None) -> xr.Dataset:
    """Maps of the chosen pictures, on the finest grid of keys.

    Variables: ``map`` (image, block, head, row, column), the weight that the query gives to the key which covers this
    cell, NaN where there is no head and where the query's window does not reach; ``rollout`` (image, row, column),
    where there is one; ``picture`` (image, y, x, rgb), 0 to 255, as the model was given it; ``uniform`` (block), the
    weight of a key in attention that weighs all alike. Where objects are known, over all images: ``object_share``
    (block, head), the part of the attention to patches that falls on the object's box, ``object_area`` the part of the
    picture that the box covers, and of rollout and the last chosen block's mean over heads ``rollout_object_share``,
    ``last_object_share`` and ``.._chance`` (the same on the boxes of other images); all with ``.._error``.
    """
    chosen = [views.sites[i] for i in views.chosen]
    dataset = xr.Dataset(coords=block_coordinates(anatomy, chosen, views.heads))
    dataset = dataset.assign_coords(
        image=("image", np.array(pictures.ids, dtype=object)),
        number=("block", np.array(views.chosen)),
        rgb=("rgb", np.array(["red", "green", "blue"], dtype=object)),
        picture_scale=("image", np.array([SCALES[int(s)] for s in pictures.scales], dtype=object)),
    )

    def put(name: str, dims: tuple[str, ...], values: np.ndarray | float, units: str, meaning: str) -> None:
        dataset[name] = (dims, values, {"units": units, "long_name": meaning})

    maps = pictures.maps.masked_fill(~_reach(views), torch.nan).float().numpy()
    put("map", ("image", "block", "head", "row", "column"), maps, "1", f"attention weight from {views.query}")
    if pictures.rollout is not None:
        meaning = f"attention rollout from {views.query}"
        put("rollout", ("image", "row", "column"), pictures.rollout.float().numpy(), "1", meaning)
    pixels = (pictures.pixels * 255).round().to(torch.uint8).numpy()
    put(
        "picture",
        ("image", "y", "x", "rgb"),
        pixels,
        "1",
        "what the model was given, normalisation undone",
    )
    uniform = np.array([view.uniform for view in views.views])
    put("uniform", ("block",), uniform, "1", "weight of a key in uniform attention")
    if shares is not None:
        _put_shares(put, shares, views)
    height, width = anatomy.input_size[1:]
    about: dict[str, float] = {}
    if views.patch:
        patch = dict(zip(("query_patch_height", "query_patch_width"), views.sites[0].patch, strict=True))
        about = {"query_row": views.patch[0], "query_column": views.patch[1], **patch}
    counted = {"images": int(shares.means.images.sum(1).max())} if shares is not None else {}
    return dataset.assign_attrs(
        study="maps",
        model=model,
        query=views.query,
        image_height=height,
        image_width=width,
        estimator="softmax weights of the query's row, prefix columns dropped; rollout: product over all blocks of "
        "(mean over heads + I) with rows renormalised (Abnar and Zuidema 2020)",
        **about,
        **counted,
    )


def _reach(views: Views) -> Tensor:
    """(views, heads, rows, columns) where a map has a value."""
    there = torch.zeros(len(views.views), views.heads, *views.grid, dtype=torch.bool)
    for number, view in enumerate(views.views):
        there[number, : view.placed.heads] = spread(view.reach().flatten(), view.grid, views.grid)
    return there


def _put_shares(put: Callable[..., None], shares: Shares, views: Views) -> None:
    rows, means = shares.rows, shares.means
    heads = torch.tensor([view.placed.heads for view in views.views])
    absent = torch.arange(views.heads) >= heads[:, None]
    what = "share of the attention to patches that falls on the object's box"
    for name, values in (("object_share", shares.heads.mean), ("object_share_error", shares.heads.error)):
        put(name, ("block", "head"), values.masked_fill(absent, torch.nan).numpy(), "1", what)
    numbers = {"object_area": (float(rows.area(means.mean)), float(rows.area(means.error)))}
    for kind in rows.kinds:
        numbers[f"{kind}_object_share"] = (float(rows.share(means.mean, kind)), float(rows.share(means.error, kind)))
        numbers[f"{kind}_object_chance"] = means.statistic(lambda values, k=kind: rows.chance(values, k))  # type: ignore[misc]
    for name, (value, error) in numbers.items():
        put(name, (), value, "1", f"{name.replace('_', ' ')}, mean over images")
        put(f"{name}_error", (), error, "1", f"standard error of {name}")
