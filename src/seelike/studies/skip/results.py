"""The labelled result of one model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from seelike.measures import t_quantile
from seelike.studies.means import Mean
from seelike.studies.skip.estimate import SkipEstimate
from seelike.studies.skip.places import Place

MEANINGS = {
    "ratio": "mean over images of norm of the skip / norm of the branch",
    "ratio_of_means": "mean norm of the skip / mean norm of the branch",
    "cosine_output": "mean cosine of skip z and output z + f(z)",
    "cosine_branch": "mean cosine of skip z and branch f(z)",
    "skip_norm": "mean norm of the skip over channels",
    "branch_norm": "mean norm of the branch over channels",
}


def model_dataset(model: str, places: Sequence[Place], made: SkipEstimate, images: int) -> xr.Dataset:
    """Everything about the residual sums of one model.

    Variables (residual, token), NaN where a residual sum has fewer tokens: ``ratio``, ``ratio_of_means``,
    ``cosine_output``, ``cosine_branch``, ``skip_norm``, ``branch_norm``, each with ``_error`` (standard error). The
    same (residual) with ``_prefix`` and ``_spatial``: means over prefix and over spatial tokens; these have ``_sd``
    (standard deviation over images) too.
    """
    dataset = xr.Dataset(coords=_coordinates(places))
    for name, mean in {**made.measures, "ratio_of_means": made.ratio_of_means}.items():
        _add(dataset, name, mean, places)
    return dataset.assign_attrs(
        study="skip",
        model=model,
        images=images,
        error="standard error over images",
        interval="95 % is value +- t * error",
        t=t_quantile(images),
        token_order="prefix tokens first, then the positions of the map row by row",
    )


def _coordinates(places: Sequence[Place]) -> dict[str, tuple[str, np.ndarray]]:
    sites = [place.site for place in places]
    text = {
        "residual": [s.name for s in sites],
        "block": [s.block for s in sites],
        "branch_kind": [s.branch_kind for s in sites],
        "kind": [s.kind for s in sites],
    }
    numbers = {
        "block_index": [p.block_index for p in places],
        "relative_depth": [p.relative_depth for p in places],
        "tokens": [p.tokens for p in places],
        "prefix_tokens": [p.prefix_tokens for p in places],
    }
    return {
        **{name: ("residual", np.array(values, dtype=object)) for name, values in text.items()},
        **{name: ("residual", np.array(values)) for name, values in numbers.items()},
        "token": ("token", np.arange(max(p.tokens for p in places))),
    }


def _add(dataset: xr.Dataset, name: str, mean: Mean, places: Sequence[Place]) -> None:
    meaning = MEANINGS[name]
    value, error, spread = (_parts(each, places) for each in (mean.value, mean.error, mean.spread))
    dims = ("residual", "token")
    dataset[name] = (dims, value[0], {"units": "1", "long_name": meaning})
    dataset[f"{name}_error"] = (dims, error[0], {"units": "1", "long_name": f"standard error of {name}"})
    for number, part in ((1, "prefix"), (2, "spatial")):
        stem, over = f"{name}_{part}", f"{meaning}, over {part} tokens"
        dataset[stem] = ("residual", value[number], {"units": "1", "long_name": over})
        dataset[f"{stem}_error"] = ("residual", error[number], {"units": "1", "long_name": f"standard error of {stem}"})
        if name != "ratio_of_means":
            meant = f"standard deviation of {stem} over images"
            dataset[f"{stem}_sd"] = ("residual", spread[number], {"units": "1", "long_name": meant})


def _parts(columns: Tensor, places: Sequence[Place]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut (columns,) into tokens (residual, token), padded with NaN, and the two means (residual,)."""
    rows = torch.full((len(places), max(p.tokens for p in places)), torch.nan, dtype=torch.float64)
    prefix, spatial = rows.new_empty(len(places)), rows.new_empty(len(places))
    for row, (place, part) in enumerate(
        zip(places, torch.split_with_sizes(columns, [p.columns for p in places]), strict=True)
    ):
        rows[row, : place.tokens], prefix[row], spatial[row] = part[:-2], part[-2], part[-1]
    return rows.numpy(), prefix.numpy(), spatial.numpy()


def note_undefined(model: str, places: Sequence[Place], made: SkipEstimate) -> list[str]:
    """Name the residual sums where a measure does not exist for some image."""
    notes = []
    sizes = [p.columns for p in places]
    reasons = {
        "ratio": "the branch is exactly zero, so no ratio of norms exists (NaN; ratio_of_means is finite where the "
        "branch is not zero for all images)",
        "cosine_output": "skip or output is exactly zero, so no cosine exists (the means are over the rest)",
        "cosine_branch": "skip or branch is exactly zero, so no cosine exists (the means are over the rest)",
    }
    for name, reason in reasons.items():
        counts = [
            int(part[: p.tokens].sum())
            for p, part in zip(places, torch.split_with_sizes(made.undefined[name], sizes), strict=True)
        ]
        met = [(p.site.name, count) for p, count in zip(places, counts, strict=True) if count]
        if met:
            where = ", ".join(f"{site} ({count:,} positions of images)" for site, count in met)
            notes.append(f"{model}: {reason}, at {where}")
    return notes
