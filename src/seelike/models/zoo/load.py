"""Build a member of the zoo and give it its weights."""

from __future__ import annotations

from pathlib import Path

from seelike.errors import SeelikeError
from seelike.models.architectures import build
from seelike.models.model import Model
from seelike.models.provenance import provenance, random_weights
from seelike.models.seeding import seeded
from seelike.models.spec import ModelSpec
from seelike.models.weights import misfit, read_file
from seelike.models.zoo.index import FOLDER, Member, member, members, sha256
from seelike.models.zoo.transform import ZooTransform


def names() -> list[str]:
    """Names of the zoo's members."""
    return list(members())


def load(spec: ModelSpec, folder: Path = FOLDER) -> Model:
    """Load a member, in single precision, with the preprocessing of its training.

    ``zoo:NAME@random`` is the same network before any training. Raises `SeelikeError` for unknown names (with close
    matches), arguments, and weights that are missing or not those of the index.
    """
    entry = member(spec.name, folder)
    seed = spec.seed
    if spec.arguments or spec.input_size or (spec.weights is not None and seed is None):
        raise SeelikeError(
            f"{spec.text}: a zoo model is as it was trained and takes no arguments or other weights; for the "
            f"architecture alone write timm:{entry.architecture}?..., and @random for its random weights"
        )
    with seeded(seed or 0):
        module = build(entry.architecture, as_arguments(entry))
    weights = random_weights(seed) if seed is not None else f"trained, zoo {spec.name}"
    if seed is None:
        path = folder / f"{spec.name}.safetensors"
        check_hash(path, entry, spec.text)
        state = {k: v.float() if v.is_floating_point() else v for k, v in read_file(path).items()}
        complaint = misfit(state, module.state_dict(), path, spec.text, None)
        if complaint:
            raise SeelikeError(complaint)
        module.load_state_dict(state)
    transform = ZooTransform(entry.input_size[1:], entry.mean, entry.std)
    kept = provenance(spec, weights, "timm") | {
        "data_set": entry.data_set,
        "test_accuracy": entry.test_accuracy,
        "recipe": entry.recipe,
        "recipe_sha256": entry.recipe_sha256,
        "weights_sha256": entry.sha256,
        "classes": list(entry.classes),
    }
    return Model(
        module,
        entry.input_size,
        spec.label,
        preprocess=transform,
        preprocess_note=transform.note,
        spec=spec.text,
        provenance=kept if seed is None else {k: v for k, v in kept.items() if k not in TRAINED},
    )


TRAINED = ("test_accuracy", "recipe", "recipe_sha256", "weights_sha256")
"""What is not true of random weights."""


def as_arguments(entry: Member) -> dict[str, object]:
    """Give back tuples where JSON made them lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.arguments.items()}


def check_hash(path: Path, entry: Member, text: str) -> None:
    """Raise `SeelikeError` when the file is missing or holds other bytes than the index says."""
    if not path.is_file():
        raise SeelikeError(f"{text}: its file {path} is missing; install seelike anew, or train it: {again(entry)}")
    found = sha256(path)
    if found != entry.sha256:
        raise SeelikeError(
            f"{text}: its file {path} has SHA-256 {found[:12]}..., but the zoo's index says {entry.sha256[:12]}...; it "
            f"is damaged or was exchanged: install seelike anew, or train it: {again(entry)}"
        )


def again(entry: Member) -> str:
    """The command that trains a member."""
    return f"seelike train {entry.recipe}"
