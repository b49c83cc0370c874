"""The labelled result of one model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from seelike.studies.probe.tallied import Estimate, Tallied
from seelike.studies.probe.views import POOLINGS

ERROR = (
    "standard error: variance over draws / draws + variance of counting on the evaluated images (delete-a-group "
    "jackknife); with one draw the latter alone"
)


def model_dataset(tallied: Tallied, shots: int | None) -> xr.Dataset:
    """Accuracies of all probes of one model.

    Variables (layer, pooling): ``accuracy``, ``accuracy_error``, ``accuracy_spread`` (standard deviation over draws),
    ``accuracy_t`` (standard errors in half a 95 % interval), ``lambda`` (layer, pooling, draw), and with the check
    ``accuracy_logistic`` and its error; NaN where a layer has no such pooling. Where tokens were probed:
    ``token_accuracy`` with ``_error`` (layer, token), row by row of the grid without prefix tokens, and
    ``token_mean``, the mean over tokens, with ``_error`` and ``_t`` (layer).
    """
    data = xr.Dataset(coords=_coordinates(tallied))
    _add_pooled(data, tallied)
    if any(tallied.token_columns(layer) for layer in range(len(tallied.views))):
        _add_tokens(data, tallied)
    slots, held, evaluated = tallied.split.parts[0].counts
    return data.assign_attrs(
        study="probe",
        model=tallied.model,
        classes=len(tallied.split.classes),
        chance=1 / len(tallied.split.classes),
        draws=tallied.split.draws * len(tallied.split.parts),
        shots=shots or 0,
        images_of_a_fit=slots,
        images_held_out=held,
        images_evaluated=evaluated,
        native_pooling=tallied.native(),
        error=ERROR,
        interval="95 % is value +- t * error, t by Welch and Satterthwaite",
        definition="ridge regression of standardised features to +-1 targets, lambda chosen on held-out images "
        "(paper.md 2.5)",
    )


def _coordinates(tallied: Tallied) -> dict[str, tuple[str, np.ndarray]]:
    views = tallied.views
    text = {
        "layer": [v.site.name for v in views],
        "block": [v.site.block or "" for v in views],
    }
    numbers = {
        "relative_depth": [v.site.relative_depth for v in views],
        "features": [v.features for v in views],
        "patch": [v.patch for v in views],
        "tokens": [v.tokens for v in views],
        "grid_rows": [v.grid[0] if v.grid else 0 for v in views],
        "grid_columns": [v.grid[1] if v.grid else 0 for v in views],
    }
    return {
        **{name: ("layer", np.array(values, dtype=object)) for name, values in text.items()},
        **{name: ("layer", np.array(values)) for name, values in numbers.items()},
        "pooling": ("pooling", np.array(POOLINGS, dtype=object)),
        "draw": ("draw", np.arange(tallied.split.draws * len(tallied.split.parts))),
    }


def _add_pooled(data: xr.Dataset, tallied: Tallied) -> None:
    places = [[tallied.pooled_column(layer, p) for p in POOLINGS] for layer in range(len(tallied.views))]
    made = tallied.estimate(lambda accuracy: accuracy)
    _add(data, "accuracy", made, places, ("layer", "pooling"), "share of the evaluated images that are read right")
    attrs = {"units": "1", "long_name": "standard deviation of accuracy over draws"}
    data["accuracy_spread"] = (("layer", "pooling"), _take(made.spread, places), attrs)
    chosen = tallied.lambda_chosen().flatten(0, 1)  # (draws, columns)
    values = np.stack([_take(draw, places) for draw in chosen], -1)
    attrs = {"units": "1", "long_name": "ridge penalty of standardised features, chosen on held-out images"}
    data["lambda"] = (("layer", "pooling", "draw"), values, attrs)
    if tallied.checked:
        logistic = tallied.estimate(lambda accuracy: accuracy, "logistic")
        _add(data, "accuracy_logistic", logistic, places, ("layer", "pooling"), "the same by logistic regression")


def _add_tokens(data: xr.Dataset, tallied: Tallied) -> None:
    columns = [tallied.token_columns(layer) for layer in range(len(tallied.views))]
    most = max(len(each) for each in columns)
    places = [[*each, *[None] * (most - len(each))] for each in columns]
    data.coords["token"] = ("token", np.arange(most))
    made = tallied.estimate(lambda accuracy: accuracy)
    meaning = "share of the evaluated images that are read right from one token alone"
    _add(data, "token_accuracy", made, places, ("layer", "token"), meaning)
    means = tallied.estimate(_means([each or [0] for each in columns]))
    kept = [[layer if each else None] for layer, each in enumerate(columns)]
    _add(data, "token_mean", means, kept, ("layer",), "mean over tokens of token_accuracy")


def _means(columns: list[list[int]]) -> Callable[[Tensor], Tensor]:
    return lambda accuracy: torch.stack([accuracy[..., each].mean(-1) for each in columns], -1)


def _add(
    data: xr.Dataset,
    name: str,
    made: Estimate,
    places: list[list[int | None]],
    dims: tuple[str, ...],
    meaning: str,
) -> None:
    words = {
        "": (made.value, meaning),
        "_error": (made.error, f"standard error of {name}"),
        "_t": (made.t, f"standard errors in half a 95 % interval of {name}"),
    }
    for suffix, (values, long_name) in words.items():
        table = _take(values, places)
        attrs = {"units": "1", "long_name": long_name}
        data[name + suffix] = (dims, table[:, 0] if len(dims) == 1 else table, attrs)


def _take(values: Tensor, places: list[list[int | None]]) -> np.ndarray:
    """Values at columns, NaN where there is none."""
    kept = values.tolist()
    return np.array([[np.nan if place is None else kept[place] for place in row] for row in places])
