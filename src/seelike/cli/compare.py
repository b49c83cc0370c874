"""`seelike compare`."""

from __future__ import annotations

import itertools
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import xarray as xr
from rich.markup import escape

import seelike
from seelike.cli.options import DeviceOption, LayersOption, flat
from seelike.cli.terminal import PassBar, err, out, show_bar
from seelike.cli.verdicts import VERDICT_COLOURS
from seelike.errors import SeelikeError
from seelike.passes import Interrupted, PassOptions
from seelike.studies import STUDIES, Similarity, Study
from seelike.studies.parameters import make_studies

DEMO_MODELS = ("zoo:vit-cls", "zoo:resnet")
DEMO_IMAGES = "scenes:test"


class OnBadImage(StrEnum):
    """What to do with an image that cannot be read."""

    stop = "stop"
    skip = "skip"


class Pooling(StrEnum):
    """What becomes of a layer's tensor before it is compared."""

    flatten = "flatten"
    cls = "cls"
    mean = "mean"
    spatial = "spatial"


Models = Annotated[
    list[str] | None,
    typer.Argument(
        help="Models: zoo:NAME, timm:NAME, torchvision:NAME, hf:REPO_OR_DIR, py:FILE.py:FUNCTION; with @random for "
        "random weights, @FILE for a checkpoint. Without models: two small ones that come with seelike.",
        show_default=False,
    ),
]
ImagesOption = Annotated[
    str | None,
    typer.Option(
        "--images", help="folder:DIR, parquet:FILES, tar:SHARDS, hf:NAME[/SPLIT] or scenes:SPLIT.", show_default=False
    ),
]


def compare(
    models: Models = None,
    images: ImagesOption = None,
    studies: Annotated[
        str, typer.Option(help="Studies, separated by commas; `seelike studies` lists them.")
    ] = "similarity",
    layers: LayersOption = ["sublayers"],  # noqa: B006 - typer copies it
    pool: Annotated[Pooling, typer.Option(help="How a layer becomes features.")] = Pooling.flatten,
    settings: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="STUDY.PARAMETER=VALUE",
            help="Set a parameter of a study (`seelike studies --parameters`); may be repeated.",
        ),
    ] = [],  # noqa: B006
    limit: Annotated[int | None, typer.Option(help="Images to use, drawn at random.", show_default="all")] = None,
    minibatch: Annotated[int, typer.Option(help="Images per minibatch of the estimator.")] = PassOptions.minibatch,
    repeats: Annotated[int, typer.Option(help="Fresh random samples of the images to average over.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    device: DeviceOption = "auto",
    batch: Annotated[int | None, typer.Option(help="Images per forward pass.", show_default="from memory")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that decode images.", show_default="0, beside a GPU up to 8")
    ] = None,
    on_bad_image: Annotated[
        OnBadImage, typer.Option(help="Stop at an unreadable image, or skip it for all models.")
    ] = OnBadImage.stop,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Folder of the results.", show_default="runs/compare-N")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted run in --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
) -> None:
    """Compare models layer by layer, each with each and with itself, on the same images."""
    if not models:
        if images is not None:
            raise SeelikeError(
                "--images was given but no models; try: seelike compare timm:resnet50 timm:vit_small_patch16_224"
            )
        models, images = list(DEMO_MODELS), DEMO_IMAGES
        err.print(
            f"No models were given, so this compares {' with '.join(DEMO_MODELS)}: small networks that were trained on "
            f"generated scenes and come with seelike, on {DEMO_IMAGES}, which they have not seen."
        )
    asked = _studies(studies, layers, pool, settings)
    folder = out_dir or _next_folder()
    try:
        with show_bar(PassBar) as progress:
            results = seelike.compare(
                models,
                images,
                asked,
                folder,
                limit=limit,
                minibatch=minibatch,
                repeats=repeats,
                seed=seed,
                device=device,
                batch=batch,
                workers=workers,
                on_bad_image=on_bad_image.value,
                resume=resume,
                overwrite=overwrite,
                progress=progress,
            )
    except Interrupted as stopped:  # here, because typer swallows every KeyboardInterrupt on its way up
        err.print(escape(str(stopped)), soft_wrap=True)
        raise typer.Exit(130) from None
    _report(results, folder)


def _studies(names: str, layers: list[str], pool: Pooling, settings: list[str]) -> list[Study]:
    # --layers and --pool are short for two parameters of the similarity study, whichever studies run beside it.
    asked = flat([names])
    short = [f"similarity.layers={','.join(flat(layers))}", f"similarity.pool={pool.value}"]
    return make_studies(asked, [*(short if Similarity.name in asked else []), *settings], STUDIES)


def _next_folder() -> Path:
    return next(path for n in itertools.count(1) if not (path := Path("runs") / f"compare-{n}").exists())


def _report(results: xr.DataTree, folder: Path) -> None:
    run = json.loads(results.attrs["run"])
    for note in run["notes"]:
        err.print(f"note: {escape(note)}")
    for finding in json.loads(results.attrs["findings"]):
        out.print(f"• {escape(finding['statement'])}")
        if finding["verdict"]:
            colour = VERDICT_COLOURS[finding["verdict"]]
            out.print(f"  claim: {escape(finding['claim'])}: [{colour}]{finding['verdict']}[/]")
    if run["images"]["used"]:
        out.print(f"{run['images']['used']} images, {run['seconds']:.0f} s")
    page = folder / "report.html"
    what = "page" if page.exists() else "results"
    out.print(f"{what}: {escape(str(page if page.exists() else folder))}", soft_wrap=True)
