"""From a recipe to a folder: the trained weights, what was measured, the log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from seelike.errors import SeelikeError
from seelike.train import checkpoint
from seelike.train.datasets import open_split, places
from seelike.train.finish import measure, summarise, write
from seelike.train.fit import Saving, fit
from seelike.train.fitting import Fitting
from seelike.train.library import fabric as start_fabric
from seelike.train.prepare import build_model, fingerprint, open_images, plain_attention
from seelike.train.progress import Log, Progress, Silent
from seelike.train.recipe import Recipe
from seelike.train.recipes import load_recipe

CHECKPOINT, WEIGHTS, SUMMARY, LOG = "checkpoint.pt", "weights.safetensors", "summary.json", "log.csv"


def train(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    data: Iterable[str] = (),
    device: str = "auto",
    devices: int = 1,
    resume: bool = False,
    checkpoint_seconds: float = 60.0,
    checkpoint_steps: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a model by its recipe and return the summary that is also written to ``summary.json``.

    The folder `out` gets ``weights.safetensors``, ``summary.json``, ``log.csv`` and, while training, ``checkpoint.pt``
    from which `resume` goes on to the same weights as without the interruption (bit for bit on a CPU with as many
    threads). `data` says where data sets lie (``cifar10=parquet:DIR/{split}.parquet``); `name` is what the summary
    calls the recipe.

    Raises `SeelikeError` for bad recipes, images that do not fit them, a folder that holds another run, a loss that
    is not finite, and checkpoints that cannot be written or read. Raises `Interrupted` on Ctrl-C, a checkpoint written.
    """
    name = name or ("python" if isinstance(recipe, Recipe) else Path(recipe).stem)
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    folder, where, watcher = Path(out), places(data), progress or Silent()
    fabric = start_fabric(device, devices, recipe.precision)
    if fabric.is_global_zero:
        prepare_folder(folder, resume)
    fabric.barrier()
    images = open_images(recipe.images, recipe.model.input_size, where, fabric.device)
    module, arguments = build_model(recipe.model, len(images.classes), recipe.seed)
    if fabric.device.type == "cpu":
        plain_attention(module)
    text = yaml.safe_dump(asdict(recipe), sort_keys=False)
    known = fingerprint(text, images)
    with torch.random.fork_rng():
        fitting = Fitting(fabric, module, recipe.optimisation)
        if resume and (folder / CHECKPOINT).exists():
            fitting.restore(checkpoint.load(folder / CHECKPOINT, known))
            watcher.tell(f"going on after step {fitting.step}")
        saving = Saving(folder / CHECKPOINT, known, checkpoint_seconds, checkpoint_steps)
        log = Log(folder / LOG, fitting.step) if fabric.is_global_zero else None
        fit(fitting, recipe, images.training, images.validation, saving, log, watcher, Snapshots(folder))
    summary = summarise(recipe, name, text, arguments, images.classes)
    if fabric.is_global_zero:
        test = open_split(recipe.images.name, "test", where)
        summary |= {
            "training_images": len(images.training),
            "training_seconds": round(fitting.seconds, 1),
            "cpu_seconds": round(fitting.cpu_seconds, 1),
            "threads": torch.get_num_threads(),
            "device": str(fabric.device),
            "devices": fabric.world_size,
        } | measure(fitting.best, recipe, test)
        write(fitting.best, summary, folder / WEIGHTS, folder / SUMMARY)
        (folder / CHECKPOINT).unlink(missing_ok=True)
    fabric.barrier()
    return summary


def prepare_folder(folder: Path, resume: bool) -> None:
    """Make the folder of a run. Raises `SeelikeError` when it holds one already that is not to be gone on with."""
    if (folder / SUMMARY).exists():
        raise SeelikeError(f"{folder} holds a finished run; choose another --out")
    if (folder / CHECKPOINT).exists() and not resume:
        raise SeelikeError(f"{folder} holds an unfinished run; go on with --resume, or choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SeelikeError(f"the folder {folder} cannot be made: {error}") from error


class Snapshots:
    """Keeps weights of the way there, as ``epochs/0010.safetensors``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "epochs"

    def __call__(self, epoch: int, module: nn.Module) -> None:
        """Write the weights after an epoch."""
        self.folder.mkdir(exist_ok=True)
        state = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
        save_file(state, self.folder / f"{epoch:04}.safetensors")
