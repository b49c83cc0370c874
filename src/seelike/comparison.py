"""The main job: models, images and studies in; labelled results out."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
import xarray as xr
from torch import nn

from seelike.errors import SeelikeError
from seelike.images import Images, as_images
from seelike.models import Model, load_model, unique_labels
from seelike.passes import Pass, PassOptions, PassPlan, PassState, Progress, Silent, ids_hash, make_plan, weights_hash
from seelike.report import RunFolder
from seelike.studies import Design, Finding, Fold, Samples, Similarity, Study

ModelLike = str | Model | nn.Module


def compare(
    models: Sequence[ModelLike] | ModelLike,
    images: str | Images | torch.Tensor | Iterable[Any] | None = None,
    studies: Sequence[Study] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    limit: int | None = None,
    minibatch: int = PassOptions.minibatch,
    repeats: int = 1,
    seed: int = 0,
    device: str | torch.device = "auto",
    batch: int | None = None,
    workers: int | None = None,
    on_bad_image: Literal["stop", "skip"] = "stop",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> xr.DataTree:
    """Compare models with each other and each with itself, on the same images.

    Args:
        models: specs (``timm:resnet50``), `Model`s or plain modules; one or more.
        images: a spec (``folder:DIR``), `Images`, a float tensor (n, channels, height, width) that is already
            preprocessed, or an iterable of such batches (read into memory once). None is enough for studies of weights
            alone (`Embeddings`, `Cost`).
        studies: what to ask, ``[Similarity()]`` by default.
        out: folder to write `results.nc`, `report.html`, figures, findings and the run's record to; None for none.
        limit: images to use per repeat, drawn at random; None for all.
        minibatch: n of the estimators, at least 4; has nothing to do with memory.
        repeats: fresh random samples of the images to average over (the paper: 20 of 10,240 images).
        seed: of the draws.
        device: ``auto`` takes a GPU where there is one.
        batch: images per forward pass; None chooses from device and memory.
        workers: processes that decode images; None for none on a CPU, up to 8 beside a GPU.
        on_bad_image: ``stop``, or ``skip`` the image for all models.
        resume: go on with an interrupted run in `out`. overwrite: replace a finished one.
        progress: who is told how far the pass has come.

    Returns:
        A tree of datasets, ``tree["similarity/<label>/<other label>"]``; attributes of the root give models, images,
        options and versions. Findings are in its attribute ``findings`` as JSON.

    Raises:
        SeelikeError: anything wrong with the input, in one sentence with the way out.
    """
    options = PassOptions(limit, minibatch, repeats, seed, batch, workers, on_bad_image)
    studies = [Similarity()] if studies is None else list(studies)
    if not studies:
        raise SeelikeError("no studies were given; `seelike studies` lists them")
    folder = RunFolder(out) if out is not None else None
    if resume and folder is None:
        raise SeelikeError("to resume a run its folder must be given (--out DIR)")
    if folder is not None:
        folder.prepare(resume=resume, overwrite=overwrite)
    try:
        source = _source(images, studies, limit)
        loaded = load_models(models, device, tensor_shape(source))
        return _Run(loaded, source, studies, options).go(folder, resume, progress or Silent())
    except BaseException:
        if folder is not None:
            folder.abandon()
        raise


def _source(images: Any, studies: Sequence[Study], limit: int | None) -> Images:
    needing = [study.name for study in studies if study.needs_images]
    if images is not None:
        return as_images(images, limit=limit)
    if needing:
        raise SeelikeError(
            f"which images? {', '.join(needing)} must see some: give images as folder:DIR, parquet:FILES, tar:SHARDS, "
            "hf:NAME or scenes:test (--images on the command line)"
        )
    return NoImages()


class NoImages(Images):
    """The source of a run whose studies look at weights only."""

    name = "no images"
    ids = ()

    def read(self, index: int) -> Any:
        """Raise IndexError."""
        raise IndexError(index)


def tensor_shape(images: Images) -> tuple[int, int, int] | None:
    """Shape of every image where they are tensors already, None where models preprocess them."""
    first = images.read(0) if images.is_tensor else None
    return (*first.shape,) if isinstance(first, torch.Tensor) else None


def load_models(
    models: Sequence[ModelLike] | ModelLike,
    device: str | torch.device = "auto",
    input_size: tuple[int, int, int] | None = None,
) -> dict[str, Model]:
    """Load models onto a device, under labels that are unique and safe in paths.

    `input_size` is that of plain modules, which do not say it themselves; 3 x 224 x 224 without it.

    Raises:
        SeelikeError: a model that cannot be loaded, no models, a device that is not there.
    """
    if isinstance(models, (str, Model, nn.Module)):
        models = [models]
    if not models:
        raise SeelikeError("no models were given; for example: timm:resnet50 timm:vit_small_patch16_224")
    place = choose_device(device)
    loaded = [_as_model(model, input_size or (3, 224, 224)).to(place) for model in models]
    return dict(zip(unique_labels([model.name for model in loaded]), loaded, strict=True))


def choose_device(device: str | torch.device) -> torch.device:
    """The device meant by a name; ``auto`` is a GPU where there is one. Raises `SeelikeError`."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).splitlines()[0]
        raise SeelikeError(f"--device {device} cannot be used here ({first}); try --device cpu") from error
    return place


def _as_model(model: ModelLike, input_size: tuple[int, int, int]) -> Model:
    if isinstance(model, str):
        return load_model(model)
    if isinstance(model, nn.Module):
        return Model(model, input_size, name=type(model).__name__)
    if isinstance(model, Model):
        return model
    raise SeelikeError(f"a model is a spec, a seelike.Model or a torch.nn.Module, not {type(model).__name__}")


@dataclass
class _Run:
    """A comparison at work."""

    models: Mapping[str, Model]
    images: Images
    studies: Sequence[Study]
    options: PassOptions

    def go(self, folder: RunFolder | None, resume: bool, progress: Progress) -> xr.DataTree:
        plan = self._plan()
        folds = self._begin(plan)
        fingerprint = self._fingerprint(folds) if folder else {}
        place = folder.state if folder else None
        sweep = Pass(self.models, folds, self.images, plan, self.options, place, fingerprint, resume, progress)
        state = sweep.run() if plan.portions else sweep.nothing_to_show()
        if folder:
            self._keep(sweep, state, progress)
        results = {path: data for fold in folds for path, data in fold.results(state.tally).items()}
        findings = [finding for fold in folds for finding in fold.findings(state.tally)]
        record = self._record(plan, folds, state)
        tree = self._tree(results, findings, record)
        if folder:
            figures = {stem: figure for study in self.studies for stem, figure in study.figures(tree).items()}
            for note in folder.write(tree, figures, findings, record):
                progress.tell(note)
        return tree

    def _plan(self) -> PassPlan:
        """Cut the images for the studies that need them; without such, nothing is shown."""
        needing = [study.fewest_images for study in self.studies if study.needs_images]
        if not needing:
            return PassPlan((), Design(self.options.repeats, 1, 0, self.options.minibatch, self.options.seed))
        plan = make_plan(len(self.images), self.options, max(needing))
        order = tuple(
            tuple(i for portion in plan.portions if portion.repeat == repeat for i in portion.images)
            for repeat in range(self.options.repeats)
        )
        images = self.images
        truths = getattr(images, "truths", None)
        samples = Samples(images.name, images.ids, images.labels, images.class_names, truths, order)
        return replace(plan, design=replace(plan.design, samples=samples))

    def _begin(self, plan: PassPlan) -> list[Fold]:
        """Read the models, check that the images fit them, let every study choose its sites."""
        for model in self.models.values():
            self._check_fit(model)
        anatomies = {label: model.anatomy for label, model in self.models.items()}
        return [study.begin(anatomies, plan.design) for study in self.studies]

    def _check_fit(self, model: Model) -> None:
        shape = tensor_shape(self.images)
        if shape is not None and shape != tuple(model.input_size):
            raise SeelikeError(
                f"{model.name} takes images of {tuple(model.input_size)} and the tensor holds images of {shape}; a "
                "tensor is shown as it is, so all models must take its size: give images as files, which each "
                "model preprocesses for itself, or models of one input size"
            )

    def _keep(self, sweep: Pass, state: PassState, progress: Progress) -> None:
        """Keep the finished tally until the results are written, so that a full disk loses nothing."""
        try:
            sweep.save(state)
        except OSError as error:
            progress.tell(f"the state of the run could not be saved ({error})")

    def _fingerprint(self, folds: Sequence[Fold]) -> dict[str, Any]:
        """What must be the same for sums of two starts to be added."""
        options = asdict(self.options)
        for free in ("workers", "save_every", "batch"):
            options.pop(free)
        return {
            "version": version("seelike"),
            "images": self.images.name,
            "image ids": ids_hash(list(self.images.ids)),
            **{f"weights of {label}": weights_hash(model.module) for label, model in self.models.items()},
            **{f"--{name}": value for name, value in options.items()},
            "studies": [repr(study) for study in self.studies],
            "sites": [[site.point for site in fold.sites(label)] for fold in folds for label in self.models],
            "readings": [[each.points for each in fold.readings(label)] for fold in folds for label in self.models],
        }

    def _record(self, plan: PassPlan, folds: Sequence[Fold], state: PassState) -> dict[str, Any]:
        """The contents of `run.json`."""
        notes = [*state.notes, *(note for fold in folds for note in fold.notes)]
        notes += [f"{label}: {note}" for label, model in self.models.items() for note in model.anatomy.notes]
        if state.skipped:
            notes.append(f"{len(state.skipped)} of {plan.images} image readings were skipped, for all models")
        return {
            "command": shlex.join(["seelike", *sys.argv[1:]]) if _is_command_line() else "seelike.compare (Python)",
            "models": {label: describe(model) for label, model in self.models.items()},
            "images": {
                "spec": self.images.name,
                "available": len(self.images),
                "used": (plan.images - len(state.skipped)) // self.options.repeats,
            },
            "studies": [repr(study) for study in self.studies],
            "options": asdict(self.options),
            "minibatches": len(plan.portions),
            "forward_batch": state.batch,
            "device": device_name(next(iter(self.models.values())).device),
            "threads": torch.get_num_threads(),
            "seconds": round(state.seconds, 2),
            "versions": versions(),
            "notes": notes,
            "skipped": [{"id": name, "reason": reason} for name, reason in state.skipped],
        }

    def _tree(self, results: dict[str, xr.Dataset], findings: Sequence[Finding], record: dict[str, Any]) -> xr.DataTree:
        about = {
            "seed": self.options.seed,
            "minibatch": self.options.minibatch,
            "repeats": self.options.repeats,
            "image_source": self.images.name,
            "versions": json.dumps(record["versions"]),
        }
        tree = xr.DataTree.from_dict({f"/{path}": data.assign_attrs(**about) for path, data in results.items()})
        tree.attrs.update(
            tool="seelike",
            run=json.dumps(record),
            findings=json.dumps([finding.as_dict() for finding in findings]),
            **about,
        )
        return tree


def describe(model: Model) -> dict[str, Any]:
    """What a record says of a model: spec, weights, input, preprocessing, size."""
    return {
        "spec": model.spec or f"nn.Module {type(model.module).__name__}",
        "provenance": {"weights": "as given", **(model.provenance or {})},
        "input_size": list(model.input_size),
        "preprocessing": model.preprocess_note,
        "parameters": model.parameters,
        "layers": len(model.anatomy.layers),
        "blocks": len(model.anatomy.blocks),
    }


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    names = ("seelike", "torch", "torchvision", "timm", "numpy", "datasets", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def device_name(device: torch.device) -> str:
    """The device in words, without the machine's name."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _is_command_line() -> bool:
    return Path(sys.argv[0]).stem == "seelike" if sys.argv and sys.argv[0] else False
