"""From a finished run to a member of the zoo."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from safetensors.torch import load_file

from seelike.errors import SeelikeError
from seelike.models.architectures import build
from seelike.models.zoo.index import FOLDER, Member, add, round_to_half
from seelike.train.datasets import open_split, places
from seelike.train.evaluate import accuracy_on
from seelike.train.finish import as_model


def install(run: str | Path, name: str, *, data: Iterable[str] = (), folder: Path = FOLDER) -> Member:
    """Round the weights of a finished run to half precision, measure their test accuracy, add them to the zoo.

    Raises `SeelikeError` when the run is not finished.
    """
    run = Path(run)
    try:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        state = load_file(run / "weights.safetensors")
    except FileNotFoundError as error:
        raise SeelikeError(f"{run} holds no finished run: there is no {error.filename}") from error
    recipe, size = summary["recipe"], summary["recipe"]["model"]["input_size"]
    module = build(recipe["model"]["architecture"], summary["arguments"])
    module.load_state_dict(state)
    test = open_split(recipe["images"]["name"], "test", places(data))
    assert test is not None
    model = as_model(round_to_half(module), size, name)
    found = accuracy_on(model, test)
    entry = Member(
        architecture=recipe["model"]["architecture"],
        arguments=summary["arguments"],
        input_size=(3, size, size),
        mean=tuple(summary["mean"]),
        std=tuple(summary["std"]),
        classes=tuple(summary["classes"]),
        data_set=recipe["images"]["name"],
        test_accuracy=round(found.value, 5),
        test_images=found.images,
        recipe=summary["recipe_name"],
        recipe_sha256=summary["recipe_sha256"],
        seed=recipe["seed"],
        fraction=recipe["images"]["fraction"],
        training_images=summary["training_images"],
        steps=recipe["optimisation"]["steps"],
        training_seconds=summary["training_seconds"],
        cpu_seconds=summary.get("cpu_seconds"),
        threads=summary["threads"],
        device=summary["device"],
        parameters=model.parameters,
        sha256="",
        versions=summary["versions"],
    )
    add(name, entry, module, folder)
    return entry
