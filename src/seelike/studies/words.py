"""Layers that are asked for by word, in several models at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seelike.anatomy import Anatomy
from seelike.errors import SeelikeError


def words_of(layers: str | Sequence[str], anatomies: Mapping[str, Anatomy]) -> dict[str, list[str]]:
    """Which of the words or globs each model knows: a glob is meant for the models that have such layers.

    Raises:
        SeelikeError: a word that no model knows, or a model that knows none.
    """
    known: dict[str, list[str]] = {model: [] for model in anatomies}
    failed: dict[str, SeelikeError] = {}
    for word in [layers] if isinstance(layers, str) else layers:
        failures = {}
        for model, anatomy in anatomies.items():
            try:
                anatomy.select(word)
                known[model].append(word)
            except SeelikeError as error:
                failures[model] = error
        if len(failures) == len(anatomies):
            raise next(iter(failures.values()))
        failed |= failures
    for model, words in known.items():
        if not words:
            raise failed.get(model) or SeelikeError(f"{model}: no layers were asked for")
    return known
