"""The command line. Tables live here and progress bars in `terminal`, and nowhere below."""

from __future__ import annotations

import itertools
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import xarray as xr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import seelike
from seelike import train as training
from seelike.comparison import choose_device
from seelike.errors import SeelikeError, close_matches
from seelike.images.scenes import Scenes, contact_sheet
from seelike.models import zoo
from seelike.models.cut import cut_model
from seelike.passes import Interrupted, PassOptions
from seelike.studies import STUDIES, Similarity, Study
from seelike.terminal import PassBar, TrainingBar, err, out, show_bar

app = typer.Typer(
    help="Do two vision models see alike, and how does each of them see?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

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


class Sublayer(StrEnum):
    """Which skips of a block."""

    both = "both"
    attention = "attention"
    mlp = "mlp"


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
LayersOption = Annotated[
    list[str],
    typer.Option(
        "--layers", help="sublayers (what the paper captures), blocks, all, or globs over layer names; may be repeated."
    ),
]


@app.command()
def compare(
    models: Models = None,
    images: ImagesOption = None,
    studies: Annotated[
        str, typer.Option(help="Studies, separated by commas; `seelike studies` lists them.")
    ] = "similarity",
    layers: LayersOption = ["sublayers"],  # noqa: B006 - typer copies it
    pool: Annotated[Pooling, typer.Option(help="How a layer becomes features.")] = Pooling.flatten,
    limit: Annotated[int | None, typer.Option(help="Images to use, drawn at random.", show_default="all")] = None,
    minibatch: Annotated[int, typer.Option(help="Images per minibatch of the estimator.")] = PassOptions.minibatch,
    repeats: Annotated[int, typer.Option(help="Fresh random samples of the images to average over.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
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
    if images is None:
        raise SeelikeError("which images? give --images folder:DIR (or parquet:, tar:, hf:, scenes:test)")
    folder = out_dir or _next_folder()
    try:
        with show_bar(PassBar) as progress:
            results = seelike.compare(
                models,
                images,
                _studies(studies, layers, pool),
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


def _studies(names: str, layers: list[str], pool: Pooling) -> list[Study]:
    flat = [part for text in layers for part in text.split(",") if part]
    chosen: list[Study] = []
    for name in dict.fromkeys(names.split(",")):
        if name not in STUDIES:
            raise SeelikeError(
                f"no study named {name!r}{close_matches(name, STUDIES)}; there are: {', '.join(STUDIES)}"
            )
        if STUDIES[name] is Similarity:
            chosen.append(Similarity(flat[0] if len(flat) == 1 else tuple(flat), pool.value))
        else:
            chosen.append(STUDIES[name]())
    return chosen


def _next_folder() -> Path:
    return next(path for n in itertools.count(1) if not (path := Path("runs") / f"compare-{n}").exists())


VERDICT_COLOURS = {"holds": "green", "does not hold": "red", "cannot tell": "yellow"}


def _report(results: xr.DataTree, folder: Path) -> None:
    run = json.loads(results.attrs["run"])
    for note in run["notes"]:
        err.print(f"note: {escape(note)}")
    for finding in json.loads(results.attrs["findings"]):
        out.print(f"• {escape(finding['statement'])}")
        if finding["verdict"]:
            colour = VERDICT_COLOURS[finding["verdict"]]
            out.print(f"  claim: {escape(finding['claim'])}: [{colour}]{finding['verdict']}[/]")
    out.print(f"{run['images']['used']} images, {run['seconds']:.0f} s")
    page = folder / "report.html"
    what = "page" if page.exists() else "results"
    out.print(f"{what}: {escape(str(page if page.exists() else folder))}", soft_wrap=True)


@app.command()
def models(
    pattern: Annotated[str, typer.Argument(help="A glob or part of a name; timm:vit* searches one library.")] = "*",
) -> None:
    """List models that can be loaded by name."""
    if pattern.startswith("zoo:"):
        _zoo(seelike.list_models(pattern))
        return
    found = seelike.list_models(pattern)
    if not found:
        raise SeelikeError(f"no model matches {pattern!r}; try a shorter part of the name")
    for spec in found:
        out.print(escape(spec), soft_wrap=True)


def _zoo(found: list[str]) -> None:
    """Print members of the zoo with what they can do and where they come from."""
    members = zoo.members()
    table = Table("model", "images", "test accuracy", "parameters", "recipe", "trained", box=None, pad_edge=False)
    for spec in found:
        member = members[spec.removeprefix("zoo:")]
        images = f"{member.data_set}, {member.training_images:,} ({100 * member.fraction:g} %)"
        accuracy = f"{100 * member.test_accuracy:.1f} % of {member.test_images:,}"
        recipe = f"{member.recipe} {member.recipe_sha256[:8]}"
        trained = (
            f"{member.steps:,} steps, {member.training_seconds / 60:.0f} min on {member.device} "
            f"({member.threads} threads), torch {member.versions['torch']}"
        )
        table.add_row(spec, images, accuracy, f"{member.parameters / 1e6:.2f} M", recipe, trained)
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


@app.command()
def train(
    recipe: Annotated[
        str | None, typer.Argument(help="Name of a recipe, or a YAML file; without one, the recipes are listed.")
    ] = None,
    changes: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; may be repeated.")
    ] = [],  # noqa: B006 - typer copies it
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run.", show_default="runs/train/RECIPE")
    ] = None,
    data: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=SPEC",
            help="Where a data set lies, as in cifar10=parquet:DIR/{split}.parquet; may be repeated.",
        ),
    ] = [],  # noqa: B006
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    devices: Annotated[int, typer.Option(help="How many devices share each batch.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished run in --out.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
    evaluated: Annotated[
        str | None,
        typer.Option("--evaluate", metavar="MODEL", help="Train nothing: measure the test accuracy of a model."),
    ] = None,
    on: Annotated[
        str | None, typer.Option(help="With --evaluate: the data set.", show_default="what a zoo model was trained on")
    ] = None,
) -> None:
    """Train a small model by its recipe, or measure the accuracy of one."""
    if evaluated is not None:
        loaded = seelike.load_model(evaluated).to(choose_device(device))
        out.print(f"{escape(evaluated)}: test accuracy {training.evaluate(loaded, on, data)}", soft_wrap=True)
        return
    if recipe is None or listing:
        table = Table("recipe", "what to expect", box=None, pad_edge=False)
        for shipped in training.list_recipes():
            table.add_row(escape(shipped.name), escape(shipped.expects))
        out.print(table)
        return
    folder = out_dir or Path("runs/train") / Path(recipe).stem
    with show_bar(TrainingBar) as progress:
        chosen = training.load_recipe(recipe, changes)
        name = " ".join([Path(recipe).stem, *changes])
        summary = training.train(
            chosen, folder, name=name, data=data, device=device, devices=devices, resume=resume, progress=progress
        )
    if summary.get("test_accuracy") is not None:  # only the first of several processes measures
        accuracy = training.Accuracy(summary["test_accuracy"], summary["test_images"])
        out.print(f"test accuracy {accuracy}, {summary['training_seconds']:.0f} s of training")
        out.print(f"weights: {escape(str(folder / 'weights.safetensors'))}", soft_wrap=True)


@app.command()
def cut(
    model: Annotated[str, typer.Argument(help="A trained model, as for `seelike compare`.")],
    block: Annotated[int, typer.Option(help="Which block, counted from 0; `seelike anatomy` lists them.")],
    sublayer: Annotated[Sublayer, typer.Option(help="Which of its skips.")] = Sublayer.both,
    images: Annotated[
        str | None, typer.Option(help="Images with labels.", show_default="the test images of a zoo model")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
) -> None:
    """Measure what a trained model loses without the skips of one block (nothing is trained again)."""
    whole = seelike.load_model(model).to(choose_device(device))
    without = cut_model(whole, block, sublayer.value)
    source = seelike.load_images(images) if images is not None else None
    if source is not None and source.labels is None:
        raise SeelikeError(f"images {source.name} have no labels, and accuracy needs them")
    for each in (whole, without):
        accuracy = training.evaluate(each) if source is None else training.accuracy_on(each, source)
        out.print(f"{escape(each.name)}: accuracy {accuracy}", soft_wrap=True)


@app.command()
def studies() -> None:
    """List the questions that can be asked."""
    table = Table("study", "question", box=None, pad_edge=False)
    for name, study in STUDIES.items():
        table.add_row(name, study.question)
    out.print(table)


@app.command()
def anatomy(
    model: Annotated[str, typer.Argument(help="A model, as for `seelike compare`.")],
    layers: LayersOption = ["all"],  # noqa: B006
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
) -> None:
    """Print the sites of a model: layers, residual sums and attentions, in execution order."""
    loaded = seelike.load_model(model).to(choose_device(device))
    read = loaded.anatomy
    flat = [part for text in layers for part in text.split(",") if part]
    table = Table("#", "name", "kind", "block", "shape", "aliases", box=None, pad_edge=False)
    for site in read.select(flat[0] if len(flat) == 1 else flat):
        aliases = ", ".join(site.aliases)
        table.add_row(
            str(site.index), escape(site.name), site.kind, site.block or "", _shape(site.shape), escape(aliases)
        )
    wide = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    wide.print(table)
    if read.residuals:
        table = Table("residual sum", "kind", "branch", "block", "shape", box=None, pad_edge=False)
        for residual in read.residuals:
            table.add_row(
                escape(residual.name), residual.kind, residual.branch_kind, residual.block, _shape(residual.shape)
            )
        wide.print("", table)
    if read.attentions:
        table = Table("attention", "heads", "queries x keys", "probabilities", "block", box=None, pad_edge=False)
        for attention in read.attentions:
            tokens = f"{attention.query_tokens} x {attention.key_tokens}"
            seen = "recomputed (fused)" if attention.fused else "in the graph"
            table.add_row(escape(attention.name), str(attention.heads), tokens, seen, attention.block or "")
        wide.print("", table)
    wide.print(
        f"\n{len(read.layers)} layers, {len(read.residuals)} residual sums, {len(read.attentions)} attentions, "
        f"{len(read.blocks)} blocks, {loaded.parameters / 1e6:.1f} M parameters"
    )
    for note in read.notes:
        wide.print(f"note: {escape(note)}")


@app.command()
def scenes(
    split: Annotated[str, typer.Argument(help="train, validation or test.")] = "test",
    size: Annotated[int, typer.Option(help="Side of an image in pixels.")] = 32,
    seed: Annotated[int, typer.Option(help="Another seed gives other images.")] = 0,
    textures: Annotated[str, typer.Option(help="A or B: two sets of textures.")] = "A",
    columns: Annotated[int, typer.Option(help="Images of each class.")] = 12,
    path: Annotated[Path, typer.Option("--out", help="The picture to write.")] = Path("scenes.png"),
) -> None:
    """Draw a contact sheet of the images that `scenes:SPLIT` generates: a row per class."""
    # Every ten images hold each class once.
    drawn = Scenes(split, max(1, 10 * columns), size, seed, textures)
    try:
        contact_sheet(drawn, columns).save(path)
    except (OSError, ValueError) as error:  # ValueError: a suffix that PIL cannot write
        raise SeelikeError(f"the sheet cannot be written to '{path}': {error}") from error
    out.print(f"sheet: {escape(str(path))}", soft_wrap=True)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def main() -> None:
    """Run the command line; bad input ends in one sentence and exit status 2, Ctrl-C in 130."""
    try:
        app()
    except SeelikeError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("stopped")
        sys.exit(130)


if __name__ == "__main__":
    main()
