"""Fitted classifiers with one knob: what chooses it on held-out images, and what then predicts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from seelike.errors import SeelikeError
from seelike.measures.ridge import STD_EPSILON, Affine, RidgePath

PENALTIES = tuple(10.0**power for power in range(-3, 3))
"""Inverse strengths (scikit-learn's C) among which logistic regression chooses, ascending in strength from the end."""


class Reader(ABC):
    """Classifiers of several draws and feature sets, for every value of the knob."""

    @abstractmethod
    def scores(self, features: Tensor) -> Iterator[Tensor]:
        """Predictions for every value of the knob, least regular first: (sets, n, d) -> (draws, sets, n, classes)."""

    @abstractmethod
    def chosen(self, index: Tensor) -> Affine:
        """The classifiers of one value for each draw and set; index (draws, sets)."""


@dataclass(frozen=True)
class RidgeReader(Reader):
    """Ridge regression to +-1 targets, (draws, sets)."""

    path: RidgePath
    lambdas: tuple[float, ...]

    def scores(self, features: Tensor) -> Iterator[Tensor]:
        coordinates = self.path.coordinates(features)
        for penalty in self.lambdas:
            yield self.path.from_coordinates(coordinates, penalty)

    def chosen(self, index: Tensor) -> Affine:
        lambdas = torch.tensor(self.lambdas, dtype=torch.float64, device=index.device)
        return self.path.at(lambdas[index])


@dataclass(frozen=True)
class LogisticReader(Reader):
    """Multinomial logistic regression by scikit-learn; weights (knob, draws, sets, d, classes)."""

    every: Affine

    def scores(self, features: Tensor) -> Iterator[Tensor]:
        yield from self.every(features)

    def chosen(self, index: Tensor) -> Affine:
        draws, sets = (torch.arange(size, device=index.device) for size in index.shape)
        where = (index, draws[:, None], sets[None])
        return Affine(self.every.mean[where], self.every.weights[where], self.every.bias[where])


def need_scikit_learn() -> Any:
    """scikit-learn's linear models. Raises `SeelikeError` when it is not installed."""
    try:
        return import_module("sklearn.linear_model")
    except ImportError as error:
        raise SeelikeError(
            "probe.check=logistic needs scikit-learn, which is not installed; pip install scikit-learn, or leave the "
            "check out"
        ) from error


def fit_logistic(rows: Tensor, labels: Tensor, present: Tensor, classes: int) -> LogisticReader:
    """Fit one classifier per knob, draw and feature set, on features standardised as the ridge's are.

    Args:
        rows: (draws, sets, n, d); labels: (draws, n); present: (draws, n) the rows that were filled.
    """
    linear_model = need_scikit_learn()
    draws, sets, _, d = rows.shape
    every = Affine(
        rows.new_zeros(len(PENALTIES), draws, sets, d),
        rows.new_zeros(len(PENALTIES), draws, sets, d, classes),
        rows.new_full((len(PENALTIES), draws, sets, classes), -torch.inf),
    )
    for draw in range(draws):
        y = labels[draw][present[draw]]
        for number in range(sets):
            x = rows[draw, number][present[draw]]
            mean, scale = x.mean(0), x.std(0, correction=0) + STD_EPSILON
            for knob, penalty in enumerate(reversed(PENALTIES)):
                model = linear_model.LogisticRegression(C=penalty, max_iter=1000)
                model.fit(((x - mean) / scale).numpy(), y.numpy())
                weights, bias = _of_all_classes(model)
                seen = torch.from_numpy(model.classes_)
                every.mean[knob, draw, number] = mean
                every.weights[knob, draw, number][:, seen] = weights / scale[:, None]
                every.bias[knob, draw, number][seen] = bias
    return LogisticReader(every)


def _of_all_classes(model: Any) -> tuple[Tensor, Tensor]:
    """Weights (d, classes) and bias of a fitted model; scikit-learn keeps those of the second of two classes only."""
    weights, bias = torch.from_numpy(model.coef_).T, torch.from_numpy(model.intercept_)
    if len(model.classes_) > 2:
        return weights, bias
    return torch.cat([-weights, weights], 1) / 2, torch.cat([-bias, bias]) / 2


def count_correct(scores: Iterator[Tensor], labels: Tensor) -> Tensor:
    """Correct answers for every value of the knob: (knob, draws, sets)."""
    return torch.stack([(each.argmax(-1) == labels.to(each.device)).sum(-1) for each in scores])


def knobs(method: str, lambdas: Sequence[float]) -> tuple[float, ...]:
    """The values of the knob of a method, least regular first."""
    return tuple(lambdas) if method == "ridge" else tuple(reversed(PENALTIES))
