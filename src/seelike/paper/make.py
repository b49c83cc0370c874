"""Make figures of the paper: find the models, run the passes that are not there yet, judge the claims."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import xarray as xr

from seelike.comparison import compare
from seelike.errors import SeelikeError, close_matches
from seelike.images import load_images
from seelike.models import zoo
from seelike.paper.cast import TRAINED, Missing, Players, find_players
from seelike.paper.entries import ALSO, FIGURES, RUNS
from seelike.paper.page import Shown, write_page
from seelike.paper.scales import SCALES
from seelike.paper.words import PaperFigure, PaperRun, Scale
from seelike.passes import Progress, Silent
from seelike.report import open_results
from seelike.report.folder import RESULTS, STATE
from seelike.studies import STUDIES, Finding
from seelike.studies.parameters import make_studies

KEY = "paper-key.json"


@dataclass(frozen=True)
class Paper:
    """What to reproduce, with which models and images.

    Attributes:
        scale: a name of `SCALES`.
        images: spec of the images, where the scale has none or others are wanted; limit: most images of a run.
        random: random in place of published weights, to try the way without a network.
        device, batch: as of `seelike.compare`.
    """

    scale: str = "lab"
    images: str | None = None
    limit: int | None = None
    random: bool = False
    device: str = "auto"
    batch: int | None = None
    trained: Path = TRAINED


def choose_figures(names: Sequence[str]) -> list[str]:
    """Entries for names of figures (``fig2``, ``figC3``, ``Figure 2``), in the paper's order; all of them for none.

    Raises:
        SeelikeError: an unknown figure; all are listed.
    """
    known = {name.lower(): name for name in FIGURES} | {name.lower(): entry for name, entry in ALSO.items()}
    chosen = []
    for name in names:
        plain = name.lower().replace("figure", "fig").replace(" ", "").replace(".", "")
        plain = plain if plain in known else f"fig{plain}"
        if plain not in known:
            near = close_matches(name, dict.fromkeys(known.values()))
            raise SeelikeError(
                f"there is no figure {name!r}{near}; there are: {', '.join(FIGURES)}; "
                f"shown with others: {', '.join(f'{other} ({entry})' for other, entry in ALSO.items())}"
            )
        chosen.append(known[plain])
    return [entry for entry in FIGURES if entry in chosen or not names]


def choose_scale(name: str) -> Scale:
    """A scale by name. Raises `SeelikeError` when there is none."""
    if name not in SCALES:
        raise SeelikeError(f"there is no scale {name!r}{close_matches(name, SCALES)}; there are: {', '.join(SCALES)}")
    return SCALES[name]


def make_paper(names: Sequence[str], out: Path, paper: Paper, progress: Progress | None = None) -> Path:
    """Make figures, or all, and return the page.

    Passes already finished in `out` for the same models, images and studies are not run again, and an interrupted
    one goes on. When figures are named, models that are missing are an error; of all figures, those that lack models
    are left out and listed on the page.

    Raises:
        SeelikeError: unknown figure or scale, missing models (with the commands that train them), missing or
            unsuitable images, and, for figures that are named, whatever `seelike.compare` finds wrong.
    """
    scale, progress = choose_scale(paper.scale), progress or Silent()
    chosen = choose_figures(names)
    players = {run: find_players(RUNS[run], scale, random=paper.random, trained=paper.trained) for run in RUNS}
    makeable = [name for name in chosen if players[FIGURES[name].run].complete]
    if names or not makeable:
        _check_players(chosen, scale, players)
    spec = _images(makeable, scale, paper)
    left_out = {name: _why(players[FIGURES[name].run], scale) for name in chosen if name not in makeable}
    shown, failed = [], dict[str, str]()
    for name in makeable:
        figure = FIGURES[name]
        if figure.run in failed:
            left_out[name] = failed[figure.run]
            continue
        try:
            tree = _results(figure.run, players[figure.run], spec, out, paper, scale, progress)
        except SeelikeError as error:
            if names:  # what was asked for by name must not be missing silently
                raise
            left_out[name] = failed[figure.run] = str(error)
            progress.tell(f"{name} is left out: {error}")
            continue
        shown.append(_show(name, figure, tree, players[figure.run], out))
    return write_page(out, scale, spec, shown, left_out)


def missing_recipes(names: Sequence[str], paper: Paper) -> list[Missing]:
    """Models that must be trained before these figures (or all of the scale) can be made, each once."""
    scale = choose_scale(paper.scale)
    runs = dict.fromkeys(FIGURES[name].run for name in choose_figures(names))
    players = [find_players(RUNS[run], scale, trained=paper.trained) for run in runs]
    lacking = [each for found in players for each in (*found.missing, *found.skipped)]
    return list({each.recipe: each for each in lacking}.values())


def _check_players(names: Sequence[str], scale: Scale, players: Mapping[str, Players]) -> None:
    for name in names:
        lacking = players[FIGURES[name].run]
        if not lacking.complete:
            raise SeelikeError(f"{name} cannot be made at scale {scale.name}: {_why(lacking, scale)}")


def _why(players: Players, scale: Scale) -> str:
    """Why a run cannot be made, and the way out."""
    if players.absent:
        others = [each.name for each in SCALES.values() if all(each.cast.get(role) for role in players.roles)]
        way = f"; make it with --scale {others[0]}" if others else ""
        return f"the scale {scale.name} has no {', '.join(players.absent)}{way}"
    commands = "\n".join(f"    {each}" for each in players.missing)
    return f"these models are not trained; `--train` trains them first, or one by one:\n{commands}"


def _images(names: Sequence[str], scale: Scale, paper: Paper) -> str | None:
    """The spec of the images, checked against what the scale needs."""
    if all(RUNS[FIGURES[name].run].images == 0 for name in names):
        return None
    spec = paper.images or scale.images
    if spec is None:
        raise SeelikeError(
            f"--scale {scale.name} needs images: give them with --images (folder:DIR with one folder for each class, "
            "or parquet:FILES)"
        )
    labels = load_images(spec).labels
    count = len(set(labels)) if labels is not None else 0
    if scale.classes is not None and count != scale.classes:
        raise SeelikeError(
            f"--images {spec} has {count or 'no'} classes, and --scale {scale.name} needs {scale.classes:,}; give a "
            "folder with one folder of images for each class (DIR/n01440764/*.JPEG for ImageNet), or parquet files "
            "with a column label"
        )
    return spec


def _results(
    name: str, players: Players, spec: str | None, out: Path, paper: Paper, scale: Scale, progress: Progress
) -> xr.DataTree:
    """The results of a run: those in `out`, when they are of the same models, images and studies, or new ones."""
    run, folder = RUNS[name], out / "runs" / name
    key_file = out / "runs" / f"{name}.{KEY}"
    key = _key(run, players, spec, paper, scale)
    same = key_file.exists() and key_file.read_text(encoding="utf-8") == key
    if same and (folder / RESULTS).exists():
        return open_results(folder)
    progress.tell(f"run {name}: {', '.join(players.specs)}; studies {', '.join(run.studies)}")
    folder.mkdir(parents=True, exist_ok=True)
    if not same:  # what is here must not be taken for this run when it is interrupted
        (folder / RESULTS).unlink(missing_ok=True)
        shutil.rmtree(folder / STATE, ignore_errors=True)
    key_file.write_text(key, encoding="utf-8")
    return compare(
        players.specs,
        spec if run.images != 0 else None,
        make_studies(run.studies, run.settings, STUDIES),
        folder,
        limit=limit_of(run, paper, scale),
        minibatch=run.minibatch,
        device=paper.device,
        batch=paper.batch,
        resume=same,
        overwrite=not same,
        progress=progress,
    )


def limit_of(run: PaperRun, paper: Paper, scale: Scale) -> int | None:
    """Most images of a run: what the user says, or the scale, raised to what the studies need; None for all."""
    limit = paper.limit
    if limit is None and scale.limit is not None:
        limit = max(scale.limit, run.per_class * (scale.classes or 0))
    limits = [each for each in (run.images, limit) if each]
    return min(limits) if limits else None


def _key(run: PaperRun, players: Players, spec: str | None, paper: Paper, scale: Scale) -> str:
    """What must be the same for results to be used again."""
    hashes = {name: member.sha256 for name, member in zoo.members().items() if f"zoo:{name}" in players.specs}
    known = [repr(run), players.specs, hashes, spec, limit_of(run, paper, scale), version("seelike")]
    trained = [_file_hash(Path(each[4:]) / "summary.json") for each in players.specs if each.startswith("run:")]
    return json.dumps([*known, trained])


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _show(name: str, figure: PaperFigure, tree: xr.DataTree, players: Players, out: Path) -> Shown:
    """Pick an entry's pictures and findings out of its run."""
    drawn = sorted((out / "runs" / figure.run / "figures").glob("*.png"))
    files = list(dict.fromkeys(path for glob in figure.stems for path in drawn if fnmatchcase(path.stem, glob)))
    told = [Finding(**(each | {"models": tuple(each["models"])})) for each in json.loads(tree.attrs["findings"])]
    wanted = [each for each in told if each.study in figure.studies]
    findings = [each for each in wanted if each.statistic in figure.statistics or not figure.statistics]
    record = json.loads(tree.attrs["run"])
    labels = iter(record["models"])  # in the order of the specs, and fit for paths
    roles = {role: tuple(islice(labels, len(names))) for role, names in players.roles.items()}
    apart = {label for role in figure.apart for label in roles.get(role, ())}
    findings = [each for each in findings if len(each.models) == 1 or not apart.intersection(each.models)]
    findings += [each for claim in figure.claims for each in claim(tree, roles)]
    return Shown(name, figure, files, findings, record, f"runs/{figure.run}", players.skipped)
