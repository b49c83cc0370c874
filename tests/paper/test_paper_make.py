"""`seelike paper`: entries, casts, runs that are used again, claims, what is missing."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from seelike.cli.app import app
from seelike.errors import SeelikeError
from seelike.images import load_images
from seelike.interrupts import Interrupted
from seelike.models import zoo
from seelike.paper import ALSO, FIGURES, SCALES, Paper, choose_figures, make_paper, missing_recipes
from seelike.paper.cast import find_players
from seelike.paper.entries import RUNS
from seelike.paper.make import limit_of
from seelike.studies import STUDIES
from seelike.train.recipes import list_recipes

SMALL = Paper(images="scenes:test?n=160", trained=Path("nowhere"))


def test_every_entry_refers_to_what_there_is() -> None:
    for name, figure in FIGURES.items():
        assert set(figure.studies) <= set(RUNS[figure.run].studies), name
        assert figure.stems
    for run in RUNS.values():
        assert set(run.studies) <= set(STUDIES)
    assert set(ALSO.values()) <= set(FIGURES)


def test_every_figure_and_appendix_of_the_paper_is_there() -> None:
    numbers = [*range(1, 14), "B1", *[f"C{n}" for n in range(1, 7)], *[f"D{n}" for n in range(1, 5)]]
    numbers += ["E1", "E2", "F1", "F2", "F3", "G1", "G2", "H1", "H2"]
    for number in numbers:
        assert choose_figures([f"fig{number}"])


def test_whatever_the_lab_needs_is_in_the_zoo_or_has_a_recipe() -> None:
    recipes = {shipped.name for shipped in list_recipes()}
    for names in SCALES["lab"].cast.values():
        for name in names:
            assert name in zoo.members() or name in recipes


@pytest.mark.parametrize(
    ("given", "meant"), [("Figure 2", "fig2"), ("figc3", "fig6"), ("13", "fig13"), ("H.1", "figH")]
)
def test_figures_are_named_as_people_write_them(given: str, meant: str) -> None:
    assert choose_figures([given, given]) == [meant]


def test_an_unknown_figure_ends_with_the_list() -> None:
    with pytest.raises(SeelikeError, match=r"no figure 'fig20'.*there are: fig1, fig2.*figC3 \(fig6\)"):
        choose_figures(["fig20"])


def test_an_unknown_scale_is_said() -> None:
    with pytest.raises(SeelikeError, match=r"no scale 'labs' \(did you mean lab\?\)"):
        make_paper([], Path("nowhere"), Paper("labs"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_paper(["figH", "figH2"], tmp_path_factory.mktemp("paper"), SMALL)


def test_the_page_holds_figures_beside_what_the_paper_says(made: Path) -> None:
    page = made.read_text()
    assert FIGURES["figH"].paper in page
    assert page.count("data:image/png;base64,") == 1
    assert "zoo:mixer" in page


def test_claims_are_judged_by_the_numbers_of_the_run(made: Path) -> None:
    import seelike

    findings = json.loads((made.parent / "findings.json").read_text())
    claim = next(each for each in findings if each["claim"].startswith("mixer is more like"))
    tree = seelike.open_results(made.parent / "runs/mixer")
    vit = tree["similarity/mixer/vit-cls"]["cka"].values.max(1).mean()
    resnet = tree["similarity/mixer/resnet"]["cka"].values.max(1).mean()
    assert claim["value"] == pytest.approx(vit - resnet)
    assert claim["error"] > 0
    assert f"| figH | {claim['claim']} |" in (made.parent / "claims.md").read_text()


def test_a_finished_run_is_used_again_and_another_one_is_not(made: Path) -> None:
    results = made.parent / "runs/mixer/results.nc"
    before = results.stat().st_mtime_ns
    make_paper(["figH"], made.parent, SMALL)
    assert results.stat().st_mtime_ns == before
    make_paper(["figH"], made.parent, Paper(images="scenes:test?n=130", trained=Path("nowhere")))
    assert results.stat().st_mtime_ns != before


def test_an_older_run_is_not_taken_for_an_interrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_paper(["cost"], tmp_path, SMALL)
    monkeypatch.setattr("seelike.paper.make.version", lambda _: "another")  # whose results may differ
    asked: list[bool] = []

    def stop(*_: Any, **options: Any) -> None:
        asked.append(options["resume"])
        raise Interrupted

    monkeypatch.setattr("seelike.paper.make.compare", stop)
    for _ in range(2):
        with pytest.raises(Interrupted):
            make_paper(["cost"], tmp_path, SMALL)
    assert asked == [False, True]


def test_a_missing_model_is_named_with_the_command_that_trains_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCALES["lab"].cast, "small-vit", ("vit-tiny-30",))  # type: ignore[index]
    monkeypatch.setattr("seelike.paper.cast.zoo.members", dict)
    with pytest.raises(SeelikeError, match=r"figG2 cannot be made at scale lab.*\n    seelike train vit-tiny-30  # \S"):
        make_paper(["figG2"], tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()
    assert "vit-tiny-30" in {each.recipe for each in missing_recipes(["figG2"], SMALL)}


def test_a_finished_run_of_training_takes_the_place_of_a_missing_member(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("seelike.paper.cast.zoo.members", dict)
    for name in ("vit-tiny", "vit-cls"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text("{}")
    players = find_players(RUNS["sizes"], SCALES["lab"], trained=tmp_path)
    assert players.complete
    assert players.specs == (f"run:{tmp_path}/vit-tiny", f"run:{tmp_path}/vit-cls")
    assert players.roles == {"small-vit": ("vit-tiny",), "vit": ("vit-cls",)}


def test_random_weights_stand_in_for_published_ones() -> None:
    players = find_players(RUNS["sizes"], SCALES["imagenet"], random=True)
    names = ("vit_base_patch32_224", "vit_large_patch16_224", "vit_huge_patch14_224")
    assert players.specs == tuple(f"timm:{name}@random" for name in names)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fig8", "--scale", "cifar"], "the scale cifar has no cuts; make it with --scale lab"),
        (["fig1", "--scale", "imagenet"], "--scale imagenet needs images"),
        (
            ["fig1", "--scale", "imagenet", "--images", "scenes:test?n=20"],
            "has 10 classes, and --scale imagenet needs 1,000",
        ),
    ],
)
def test_scales_say_what_they_need(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["paper", *arguments])
    assert isinstance(result.exception, SeelikeError)
    assert said in str(result.exception)


def test_the_list_names_every_entry() -> None:
    result = CliRunner().invoke(app, ["paper", "--list"], env={"COLUMNS": "300"})
    assert all(any(fnmatchcase(line, f"{name} *") for line in result.output.splitlines()) for name in FIGURES)


def test_models_whose_names_are_no_paths_find_their_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCALES["lab"].cast, "mixer", ("timm:seelike_mixer_lab@random",))  # type: ignore[index]
    make_paper(["figH"], tmp_path, SMALL)
    claims = [each["claim"] for each in json.loads((tmp_path / "findings.json").read_text())]
    assert "seelike_mixer_lab-random is more like vit-cls than like resnet" in claims


def test_probes_get_as_many_images_of_each_class_as_they_need() -> None:
    imagenet, pair, probes = SCALES["imagenet"], RUNS["pair"], RUNS["probes"]
    assert limit_of(pair, Paper("imagenet"), imagenet) == 10240
    assert limit_of(probes, Paper("imagenet"), imagenet) == 50_000  # all of the validation images
    assert limit_of(probes, Paper("imagenet", limit=300), imagenet) == 300
    assert limit_of(probes, Paper("cifar"), SCALES["cifar"]) == 2000
    assert limit_of(probes, Paper("lab"), SCALES["lab"]) is None
    assert limit_of(RUNS["weights"], Paper("imagenet"), imagenet) == limit_of(pair, Paper("imagenet"), imagenet)


def test_models_that_stand_apart_are_not_compared(tmp_path: Path) -> None:
    make_paper(["fig3"], tmp_path, SMALL)
    findings = [each for each in json.loads((tmp_path / "findings.json").read_text()) if each["figure"] == "fig3"]
    pairs = [set(each["models"]) for each in findings if len(each["models"]) == 2]
    assert {"vit-cls", "vit-cls-3"} in pairs
    assert not any("vit-tiny" in pair for pair in pairs)
    assert any(each["models"] == ["vit-tiny"] for each in findings)


@pytest.fixture
def small_imagenet(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Put small architectures of timm in the place of the paper's, at scale imagenet with so many classes."""
    cast = {"vit": "test_vit", "small-vit": "test_vit3", "huge-vit": "test_vit2", "mixer": "mixer_s32_224"}
    cast |= {"resnet": "test_resnet", "large-resnet": "test_byobnet"}
    roles = {role: (f"timm:{name}",) for role, name in cast.items()}

    def put(classes: int) -> None:
        monkeypatch.setitem(SCALES, "imagenet", replace(SCALES["imagenet"], cast=roles, classes=classes))  # type: ignore[index]

    return put


@pytest.mark.slow
def test_every_study_of_the_imagenet_scale_runs_on_imagenet(
    small_imagenet: Callable[[int], None], shared_data: Path, tmp_path: Path
) -> None:
    small_imagenet(1000)
    figures = ["fig2", "fig3", "fig5", "fig6", "fig7", "fig9", "figH", "position", "maps", "embeddings", "cost"]
    page = make_paper(
        figures,
        tmp_path,
        Paper("imagenet", f"parquet:{shared_data}/imagenet-sample/validation.parquet", limit=20, random=True),
    )
    found = {each["figure"] for each in json.loads((tmp_path / "findings.json").read_text())}
    assert found == {*figures} - {"maps"}  # which claims nothing without masks of the objects
    assert all(FIGURES[name].title in html.unescape(page.read_text()) for name in figures)
    assert page.read_text().count("data:image/png;base64,") >= len(figures)


@pytest.mark.slow
def test_probes_of_the_imagenet_scale_run_on_a_folder_of_classes(small_imagenet, tmp_path: Path) -> None:
    small_imagenet(10)
    scenes = load_images("scenes:test?n=420,size=64")
    for number, label in enumerate(scenes.labels):
        place = tmp_path / "val" / f"n{label:08d}"
        place.mkdir(parents=True, exist_ok=True)
        scenes.read(number).save(place / f"{number}.png")
    make_paper(["fig11", "separation"], tmp_path / "out", Paper("imagenet", f"folder:{tmp_path / 'val'}", random=True))
    found = {each["figure"] for each in json.loads((tmp_path / "out" / "findings.json").read_text())}
    assert found == {"fig11", "separation"}
