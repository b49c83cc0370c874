"""Attention drawn over pictures: heads of some blocks, and rollout of all models."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from seelike.studies.axes import short_names
from seelike.studies.maps.sheet import Sheet, draw_over, draw_picture, largest

MOST_PICTURES = 4
MOST_BLOCKS = 3
MOST_HEADS = 12


def draw(results: xr.DataTree) -> dict[str, Figure]:
    """Draw the group `/maps` of a result tree.

    Returns:
        ``maps-heads-<model>``: the picture beside the maps of its heads, for up to 4 pictures and 3 blocks (first,
        middle and last of those chosen), with rollout below it; ``maps-rollout``: rollout of up to 4 pictures, a row
        per model.
    """
    if "maps" not in results.children:
        return {}
    models = {label: node.to_dataset() for label, node in results["maps"].children.items()}
    models = {label: data for label, data in models.items() if data.sizes["image"]}
    figures = {f"maps-heads-{label}": _heads(label, data) for label, data in models.items()}
    rolled = {label: data for label, data in models.items() if "rollout" in data}
    if rolled:
        figures["maps-rollout"] = _rollouts(rolled)
    return figures


def _heads(label: str, data: xr.Dataset) -> Figure:
    """A row per picture and block: the picture, then each head's map over it."""
    pictures = min(MOST_PICTURES, data.sizes["image"])
    blocks = np.unique(np.linspace(0, data.sizes["block"] - 1, MOST_BLOCKS).round().astype(int))
    heads = min(MOST_HEADS, int(data["heads"].values[blocks].max()))
    more = f"; heads 0 to {heads - 1} of {data.sizes['head']}" if heads < data.sizes["head"] else ""
    title = f"Where {data.attrs['query']} of {label} looks, by block and head{more}"
    sheet = Sheet(title, pictures * len(blocks), 1 + heads, 1.08, _aspect(data), named=1)
    names = short_names([str(module) for module in data["module"].values])
    for row in range(sheet.rows):
        picture, block = divmod(row, len(blocks))
        one = data.isel(image=picture, block=blocks[block])
        if block == 0:
            draw_picture(sheet.panel(row, 0, _short(one)), one)
        elif block == 1 and "rollout" in one:
            values = _rollout(one)
            draw_over(sheet.panel(row, 0, f"rollout: {largest(values)}"), one, values, smooth=True)
        sheet.name_row(row, _block_name(int(one["number"]), names[str(one["module"].item())]))
        for head in range(min(heads, int(one["heads"]))):
            values = one["map"].values[head] / float(one["uniform"])
            draw_over(sheet.panel(row, 1 + head, f"head {head}: {largest(values)}"), one, values, smooth=False)
    sheet.legend(_framed(data))
    return sheet.figure


def _rollouts(models: dict[str, xr.Dataset]) -> Figure:
    """Pictures in columns: as the first model gets them, then the rollout of every model over them."""
    first = next(iter(models.values()))
    pictures = min(MOST_PICTURES, max(data.sizes["image"] for data in models.values()))
    title = "Attention rollout: what all blocks together take from each place of the picture"
    sheet = Sheet(title, 1 + len(models), pictures, 1.5, _aspect(first), named=0)
    for column in range(min(pictures, first.sizes["image"])):
        one = first.isel(image=column)
        draw_picture(sheet.panel(0, column, _short(one)), one)
    for row, (label, data) in enumerate(models.items(), start=1):
        sheet.name_row(row, f"{label}\nfrom {data.attrs['query']}")
        for column in range(min(pictures, data.sizes["image"])):
            one = data.isel(image=column)
            values = _rollout(one)
            draw_over(sheet.panel(row, column, largest(values)), one, values, smooth=True)
    sheet.legend(_framed(first))
    return sheet.figure


def _rollout(one: xr.Dataset) -> np.ndarray:
    """In multiples of what every place would get of one that is the same everywhere."""
    values: np.ndarray = one["rollout"].values
    return values * values.size


def _aspect(data: xr.Dataset) -> float:
    return data.sizes["y"] / data.sizes["x"]


def _short(one: xr.Dataset) -> str:
    name = str(one["image"].item())
    return name if len(name) <= 20 else f"…{name[-19:]}"


def _block_name(number: int, module: str) -> str:
    """Number among the attentions, and the module where its name says more."""
    plain = module.count(".") <= 1 and module.rpartition(".")[2] == str(number)
    return f"block {number}" if plain else f"block {number}\n{module}"


def _framed(data: xr.Dataset) -> str:
    return "; framed: the patch that looks" if "query_row" in data.attrs else ""
