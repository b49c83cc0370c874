"""Models that `seelike train` made, from the folder of their run: ``run:DIR``, ``run:DIR@EPOCH``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seelike.errors import SeelikeError, close_matches
from seelike.models.architectures import build
from seelike.models.model import Model
from seelike.models.provenance import provenance
from seelike.models.spec import ModelSpec
from seelike.models.weights import misfit, read_file
from seelike.models.zoo.transform import ZooTransform

SUMMARY, WEIGHTS, EPOCHS = "summary.json", "weights.safetensors", "epochs"


def load(spec: ModelSpec) -> Model:
    """Load the network of a finished run, or as it was after an epoch that the recipe kept (`keep:`).

    Raises `SeelikeError` when there is no finished run, for epochs that were not kept, and for arguments.
    """
    folder = Path(spec.name).expanduser()
    if spec.arguments or spec.input_size:
        raise SeelikeError(f"{spec.text}: a trained model is as it was trained and takes no arguments")
    try:
        summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SeelikeError(
            f"{spec.text}: {folder} holds no finished run of `seelike train` (there is no {SUMMARY}); go on with it: "
            f"seelike train RECIPE --out {folder} --resume"
        ) from error
    except (OSError, ValueError) as error:
        raise SeelikeError(f"{spec.text}: {folder / SUMMARY} cannot be read: {error}") from error
    recipe = summary["recipe"]
    module = build(recipe["model"]["architecture"], _tuples(summary["arguments"]))
    path = _weights(folder, spec)
    state = read_file(path)
    complaint = misfit(state, module.state_dict(), path, spec.text, None)
    if complaint:
        raise SeelikeError(complaint)
    module.load_state_dict(state)
    size = recipe["model"]["input_size"]
    transform = ZooTransform((size, size), tuple(summary["mean"]), tuple(summary["std"]))
    trained = f"trained, run {folder.name}" + (f", epoch {int(path.stem)}" if spec.weights else "")
    kept = provenance(spec, trained, "timm") | {
        "data_set": recipe["images"]["name"],
        "recipe": summary["recipe_name"],
        "recipe_sha256": summary["recipe_sha256"],
        "classes": list(summary["classes"]),
    }
    return Model(
        module,
        (3, size, size),
        # All digits, so that labels of a training sort by epoch and are known as such (studies/separation).
        f"{folder.name}@{path.stem}" if spec.weights else folder.name,
        preprocess=transform,
        preprocess_note=transform.note,
        spec=spec.text,
        provenance=kept if spec.weights else kept | {"test_accuracy": summary.get("test_accuracy")},
    )


def _weights(folder: Path, spec: ModelSpec) -> Path:
    """The last weights, or those after epoch ``@EPOCH``."""
    if spec.weights is None:
        return folder / WEIGHTS
    kept = {path.stem: path for path in sorted((folder / EPOCHS).glob("*.safetensors"))}
    wanted = spec.weights.zfill(4)
    if wanted not in kept:
        epochs = ", ".join(str(int(name)) for name in kept) or "none; a recipe keeps them with keep: EPOCHS"
        raise SeelikeError(
            f"{spec.text}: epoch {spec.weights} was not kept{close_matches(wanted, kept)}; kept are: {epochs}"
        )
    return kept[wanted]


def _tuples(arguments: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
