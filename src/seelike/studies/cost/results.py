"""The labelled result of one model."""

from __future__ import annotations

import numpy as np
import xarray as xr

from seelike.anatomy.multiply_adds import KINDS
from seelike.studies.cost.account import Account


def cost_dataset(model: str, account: Account) -> xr.Dataset:
    """What a model costs for one image.

    Variables (block, kind): ``multiply_adds``, ``parameters``, ``activations`` (numbers that counted operations put
    out). Variables (block): ``formula_projections``, ``formula_attention`` (4 N C^2 and 2 N^2 C, with N_k keys
    2 (N_q + N_k) C^2 and 2 N_q N_k C), ``query_projection``, ``key_projection``, ``scores`` (N_q C^2, N_k C^2,
    N_q N_k C), sums over the attentions of a block, NaN without; ``queries``, ``keys``, ``width``, ``windows`` of its
    first. Counts are exact: there are no errors. Outside the blocks operations stand at ``(before the blocks)`` and
    the like.
    """
    counted = account.counted
    places = counted.places
    row = {place: number for number, place in enumerate(places)}
    tables = {name: np.zeros((len(places), len(KINDS)), dtype=np.int64) for name in MEANINGS}
    for each in counted.operations:
        cell = (row[each.block], KINDS.index(each.kind))
        tables["multiply_adds"][cell] += each.multiply_adds
        tables["activations"][cell] += each.outputs
    for (place, kind), number in counted.parameters.items():
        tables["parameters"][row[place], KINDS.index(kind)] += number
    dataset = xr.Dataset(
        {name: (("block", "kind"), table, MEANINGS[name]) for name, table in tables.items()},
        coords={
            "block": ("block", np.array(places, dtype=object)),
            "kind": ("kind", np.array(KINDS, dtype=object)),
            "in_block": ("block", np.array([place in account.blocks for place in places])),
        },
    )
    _add_formula(dataset, account, row)
    return dataset.assign_attrs(
        study="cost",
        model=model,
        image_height=account.input_size[1],
        image_width=account.input_size[2],
        total=account.total(),
        torch_total=account.torch_total,
        fixed=account.fixed,
        quadratic=account.quadratic,
        error="none: counted, not estimated",
    )


MEANINGS = {
    "multiply_adds": {"units": "multiply-adds per image", "long_name": "multiply-adds of one image"},
    "parameters": {"units": "1", "long_name": "parameters, where they are first used"},
    "activations": {"units": "1", "long_name": "numbers that the counted operations put out for one image"},
}


def _add_formula(dataset: xr.Dataset, account: Account, row: dict[str, int]) -> None:
    names = {
        "formula_projections": "projections by formula",
        "formula_attention": "products of attention by formula",
        "query_projection": "N_q C^2",
        "key_projection": "N_k C^2",
        "scores": "N_q N_k C",
    }
    values = {name: np.full(len(row), np.nan) for name in names}
    sizes = {name: np.zeros(len(row), dtype=np.int64) for name in ("queries", "keys", "width", "windows")}
    for term in account.terms:
        place, cost = row[term.block], term.cost
        parts = (cost.projections, cost.attention, cost.query_projection, cost.key_projection, cost.scores)
        for name, part in zip(names, parts, strict=True):
            values[name][place] = np.nan_to_num(values[name][place]) + part
        if not sizes["queries"][place]:
            for name, size in sizes.items():
                size[place] = getattr(term, name)
    for name, meaning in names.items():
        dataset[name] = ("block", values[name], {"units": "multiply-adds per image", "long_name": meaning})
    for name, size in sizes.items():
        dataset[name] = ("block", size, {"units": "1", "long_name": f"{name} of the block's attention, 0 without"})
