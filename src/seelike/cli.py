"""The command line. Progress bars and tables live here and nowhere below."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import xarray as xr
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

import seelike
from seelike.comparison import choose_device
from seelike.errors import SeelikeError, close_matches
from seelike.passes import Interrupted, PassOptions
from seelike.studies import STUDIES, Similarity, Study

app = typer.Typer(
    help="Do two vision models see alike, and how does each of them see?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

DEMO_MODELS = (
    "timm:vit_tiny_patch16_224?img_size=64,patch_size=8@random",
    # timm starts the last norm of every residual unit at zero, which would leave those layers constant.
    "timm:resnet18?input_size=64,zero_init_last=false@random",
)
DEMO_IMAGES = "generated:1024?size=64"


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
        help="Models: timm:NAME, torchvision:NAME, hf:REPO_OR_DIR, py:FILE.py:FUNCTION; with @random for random "
        "weights, @FILE for a checkpoint. Without models: a small demonstration.",
        show_default=False,
    ),
]
ImagesOption = Annotated[
    str | None,
    typer.Option(
        "--images", help="folder:DIR, parquet:FILES, tar:SHARDS, hf:NAME[/SPLIT] or generated:N.", show_default=False
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
            "No models were given, so this is a demonstration: two timm models with random weights, "
            "on generated images. It shows what a run looks like; random weights say nothing about trained models."
        )
    if images is None:
        raise SeelikeError("which images? give --images folder:DIR (or parquet:, tar:, hf:, generated:)")
    folder = out_dir or _next_folder()
    try:
        with _bar() as progress:
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
    for name in names.split(","):
        if name not in STUDIES:
            raise SeelikeError(
                f"no study named {name!r}{close_matches(name, STUDIES)}; there are: {', '.join(STUDIES)}"
            )
        if STUDIES[name] is Similarity:
            chosen.append(Similarity(flat[0] if len(flat) == 1 else tuple(flat), pool.value))
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
    found = seelike.list_models(pattern)
    if not found:
        raise SeelikeError(f"no model matches {pattern!r}; try a shorter part of the name")
    for spec in found:
        out.print(escape(spec), soft_wrap=True)


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


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


class _Rate(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} images/s" if task.speed else "")


class _BarProgress:
    """Draws a bar on a terminal; elsewhere only says what must be said."""

    def __init__(self, bar: Bar | None) -> None:
        self.bar = bar
        self.task: Any = None

    def start(self, images: int, done: int) -> None:
        if self.bar is not None:
            self.task = self.bar.add_task("images", total=images, completed=done)

    def advance(self, images: int) -> None:
        if self.bar is not None:
            self.bar.advance(self.task, images)

    def tell(self, sentence: str) -> None:
        (self.bar.console if self.bar is not None else err).print(escape(sentence), soft_wrap=True)


@contextmanager
def _bar() -> Iterator[_BarProgress]:
    if not err.is_terminal:
        yield _BarProgress(None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Bar(*columns, console=err) as bar:
        yield _BarProgress(bar)


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
