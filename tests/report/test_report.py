"""What a run writes: labelled, escaped, whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import xarray as xr

import seelike
from nets import pictures, small_net, tiny_vit
from seelike.errors import SeelikeError
from seelike.report import folder as run_folder
from seelike.report.page import render_page
from seelike.studies.axes import block_spans, short_names

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    models = [seelike.Model(tiny_vit(), (3, 32, 32), f"vit {EVIL}"), seelike.Model(small_net(), (3, 32, 32), "net")]
    seelike.compare(models, pictures(60), [seelike.Similarity("all")], out, minibatch=10)
    return out


def test_results_are_labelled_and_round_trip(run: Path) -> None:
    tree = seelike.open_results(run)
    assert same_tree(tree, seelike.open_results(run / "results.nc"))
    (first, second) = tree["similarity"].children
    assert re.fullmatch(r"[A-Za-z0-9._-]+", first)
    assert second == "net"
    cross = tree[f"similarity/{first}/net"].to_dataset()
    assert cross["cka"].dims == cross["cka_error"].dims == ("layer", "other_layer")
    assert cross["block"].sel(layer="blocks.1.mlp") == "blocks.1"
    assert "units.1" in cross["other_module"].sel(other_layer=cross["other_layer"][-2]).item().split(", ")[0]
    assert cross["relative_depth"].values[[0, -1]].tolist() == [0, 1]
    assert (cross["best_match_cka"] == cross["cka"].max("other_layer")).all()
    for layer in cross["layer"].values[::5]:
        assert cross["best_match"].sel(layer=layer) == cross["cka"].sel(layer=layer).idxmax("other_layer")
    assert cross.attrs["estimator"].startswith("minibatch CKA")
    assert (cross.attrs["images"], cross.attrs["seed"], cross.attrs["groups"]) == (60, 0, 6)
    assert "torch" in json.loads(cross.attrs["versions"])
    depths = dict(zip(cross["other_layer"].values, cross["other_relative_depth"].values, strict=True))
    assert [depths[name] for name in cross["best_match"].values] == cross["best_match_depth"].values.tolist()


def test_depths_are_those_of_the_whole_model() -> None:
    """Chosen layers that stop short of a model's end keep their own depth, also as matches."""
    net = seelike.Model(small_net(), (3, 32, 32), "net")
    vit = seelike.Model(tiny_vit(), (3, 32, 32), "vit")
    study = seelike.Similarity(["blocks.0", "units.0"])
    cross = seelike.compare([vit, net], pictures(20), [study], minibatch=10)["similarity/vit/net"]
    assert 0 < cross["best_match_depth"].item() == cross["other_relative_depth"].item() < 1


def same_tree(a: xr.DataTree, b: xr.DataTree) -> bool:
    return all(a[node.path].to_dataset().identical(node.to_dataset()) for node in b.subtree)


def test_every_name_on_the_page_is_escaped(run: Path) -> None:
    page = (run / "report.html").read_text()
    outside = re.sub(r"(?s)<script>.*?</script>", "", page.replace(EVIL, "EVIL"))
    assert "EVIL" not in page.replace(EVIL, "EVIL")
    assert "alert(1)" not in outside or "&lt;script&gt;" in outside
    assert not re.search(r"(src|href)\s*=\s*[\"']https?:", outside)  # opens offline


def test_skipped_images_are_escaped_too(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    record["skipped"] = [{"id": EVIL, "reason": f"bad {EVIL}"}]
    record["notes"] = [EVIL]
    record["models"] = {EVIL: next(iter(record["models"].values())) | {"spec": EVIL}}
    page = render_page(xr.DataTree(), run / "figures", [], record, [])
    assert page is not None
    assert EVIL not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5


def test_without_jinja_there_is_no_page_and_a_word(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    notes: list[str] = []
    assert render_page(xr.DataTree(), run / "figures", [], {}, notes) is None
    assert notes == ["no report.html: it needs jinja2 (pip install 'seelike[report]')"]


def test_without_plotly_maps_are_pictures(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "plotly.graph_objects", None)
    page = render_page(seelike.open_results(run), run / "figures", [], json.loads((run / "run.json").read_text()), [])
    assert page is not None
    assert page.count("<img") == len(list((run / "figures").glob("*.png")))


def test_findings_agree_with_the_results(run: Path) -> None:
    tree = seelike.open_results(run)
    findings = json.loads((run / "findings.json").read_text())
    label = next(iter(tree["similarity"].children))
    by = {(tuple(f["models"]), f["statistic"]): f for f in findings}
    own = tree[f"similarity/{label}/{label}"]
    assert by[(label,), "ends_similarity"]["value"] == pytest.approx(float(own["ends_similarity"]))
    third = len(own["layer"]) // 3
    assert float(own["ends_similarity"]) == pytest.approx(float(own["cka"][:third, -third:].mean()))
    difference = by[(label, "net"), "ends_similarity difference"]
    ends = [by[(m,), "ends_similarity"] for m in (label, "net")]
    assert difference["value"] == pytest.approx(ends[0]["value"] - ends[1]["value"])
    assert difference["error"] == pytest.approx(np.hypot(ends[0]["error"], ends[1]["error"]))
    t = own.attrs["t"]
    sure = abs(difference["value"]) > t * difference["error"]
    assert (difference["verdict"] != "cannot tell") == sure


def test_figures_show_the_first_layers_at_the_lower_left(run: Path) -> None:
    """The corner pixel of a map is the colour of the first layer with itself, which is the colour of CKA 1."""
    tree = seelike.open_results(run)
    figure = seelike.Similarity().figures(tree)["similarity-net-net"]
    axes = figure.axes[0]
    image = axes.images[0]
    assert image.origin == "lower"
    low, high = axes.get_ylim()
    assert low < high
    np.testing.assert_array_equal(np.asarray(image.get_array()), tree["similarity/net/net"]["cka"].values)
    assert image.norm(1.0) == 1.0
    with PIL.Image.open(run / "figures" / "similarity-net-net.png") as picture:
        assert min(picture.size) > 600


def test_blocks_are_marked_where_they_are() -> None:
    assert block_spans(["", "a", "a", "b", "", "b"]) == [("a", 1, 2), ("b", 3, 3), ("b", 5, 5)]


def test_open_results_errors(tmp_path: Path) -> None:
    with pytest.raises(SeelikeError, match="no results at"):
        seelike.open_results(tmp_path / "nothing")
    (tmp_path / "results.nc").write_bytes(b"not hdf5")
    with pytest.raises(SeelikeError, match="is not a result file"):
        seelike.open_results(tmp_path)


def test_a_failing_file_system_leaves_nothing_half_written(run: Path, tmp_path: Path, monkeypatch) -> None:
    target = run_folder.RunFolder(tmp_path / "run")
    target.prepare(resume=False, overwrite=False)
    target.state.mkdir()
    (target.state / "pass.safetensors").write_bytes(b"tally")

    def half(results: xr.DataTree, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder, "write_results", half)
    with pytest.raises(SeelikeError, match=r"No space left on device.*--resume"):
        target.write(xr.DataTree(), {}, [], {})
    assert [p.name for p in target.path.iterdir()] == ["state"]
    assert (target.state / "pass.safetensors").read_bytes() == b"tally"


def test_block_names_are_cut_as_far_as_they_differ() -> None:
    assert short_names(["encoder.layers.0", "encoder.layers.1"]) == {
        "encoder.layers.0": "layers.0",
        "encoder.layers.1": "layers.1",
    }
    stages = ["stages.0.blocks.0", "stages.0.blocks.1", "stages.1.blocks.0"]
    assert short_names(stages) == {name: name for name in stages}
    assert short_names(["layer1.0", "layer2.0", "layer2.0"]) == {"layer1.0": "layer1.0", "layer2.0": "layer2.0"}
    assert short_names([]) == {}
