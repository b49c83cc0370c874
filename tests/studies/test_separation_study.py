"""The separation study against an independent reimplementation, and what its numbers must obey."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

import seelike
from ctrl_c import StopAfter
from nets import pictures, small_net, tiny_vit
from seelike.errors import SeelikeError
from seelike.images import partition
from seelike.images.tensors import TensorImages
from seelike.passes import Interrupted
from seelike.studies.separation import over_training


@lru_cache
def known(name: str) -> seelike.Model:
    """Models that several tests look at, read once."""
    nets = {"vit": tiny_vit, "net": lambda: small_net(units=3)}
    return seelike.Model(nets[name](), (3, 32, 32), name)


def labelled(n: int = 120, classes: int = 4, strength: float = 0.6) -> tuple[Tensor, list[int]]:
    labels = [i * 7 % 11 % classes for i in range(n)]
    return pictures(n) + strength * pictures(classes, seed=99)[labels], labels


def separation(model: str, x: Tensor, labels: list[int], minibatch: int = 24, **options: object) -> xr.Dataset:
    images = TensorImages(x, labels)
    tree = seelike.compare(known(model), images, [seelike.Separation(**options)], minibatch=minibatch)
    return tree[f"separation/{model}"].to_dataset()


def reference(features: np.ndarray, y: np.ndarray, minibatch: int, temperature: float) -> tuple[float, float]:
    """Mean loss at a temperature of scaled distances, and at none (chance), by loops over images."""
    losses, levels = [], []
    for rows in partition(len(y), minibatch):
        x, labels = features[list(rows)].reshape(len(rows), -1), y[list(rows)]
        d = np.array([[((a - b) ** 2).sum() for b in x] for a in x])
        d = d / d[~np.eye(len(x), dtype=bool)].mean()
        for i in range(len(x)):
            others = [j for j in range(len(x)) if j != i]
            same = [j for j in others if labels[j] == labels[i]]
            if same:
                losses.append(
                    -np.log(np.exp(-d[i, same] / temperature).sum() / np.exp(-d[i, others] / temperature).sum())
                )
                levels.append(np.log(len(others) / len(same)))
    return float(np.mean(losses)), float(np.mean(levels))


def test_is_what_loops_over_images_give() -> None:
    x, labels = labelled(80)
    labels[3] = 9  # nobody else is of this class
    data = separation("net", x, labels, temperature=0.3)
    seen = {}
    module = known("net").module
    handles = [
        unit.register_forward_hook(lambda _, __, out, n=n: seen.update({n: out.double().numpy()}))
        for n, unit in enumerate(module.units)
    ]
    with torch.no_grad():
        module(x)
    for handle in handles:
        handle.remove()
    for layer, features in seen.items():
        value, level = reference(features, np.array(labels), 24, 0.3)
        assert float(data["snnl"][layer]) == pytest.approx(value, rel=1e-5)
        assert float(data["baseline"]) == pytest.approx(level, rel=1e-9)
    assert data.attrs["images_alone"] == 1
    curve = data["snnl_curve"].values
    assert (data["snnl_best"].values <= curve.min(1) + 1e-12).all()
    np.testing.assert_allclose(data["snnl_best"], curve.min(1), atol=0.01)


def test_the_known_value_of_labels_without_meaning() -> None:
    """paper.md 5.1: 1,000 images of 10 classes, 2.3116."""
    labels = [i % 10 for i in range(1000)]
    data = separation("net", torch.randn(1000, 3, 32, 32), labels, 1000, layers=("stem.0",), temperature=100.0)
    assert float(data["baseline"]) == pytest.approx(math.log(999 / 99), rel=1e-12)
    assert float(data["snnl"][0]) == pytest.approx(2.3116, abs=0.002)


def test_separated_classes_have_no_loss_and_the_error_is_none() -> None:
    x, labels = labelled(strength=300.0)
    data = separation("net", x, labels, layers=("stem.0",))
    assert float(data["snnl_best"][0]) < 1e-6
    assert float(data["snnl_best_error"][0]) < 1e-6


@pytest.mark.parametrize("pool", ["cls", "mean", "spatial"])
def test_poolings_are_those_of_the_layer(pool: str) -> None:
    x, labels = labelled(80)
    data = separation("vit", x, labels, pool=pool, temperature=0.2)
    seen = []
    handle = known("vit").module.blocks[1].register_forward_hook(lambda _, __, out: seen.append(out.double().numpy()))
    with torch.no_grad():
        known("vit").module(x)
    handle.remove()
    ways = {"cls": seen[0][:, 0], "mean": seen[0].mean(1), "spatial": seen[0][:, 1:]}
    assert float(data["snnl"][1]) == pytest.approx(reference(ways[pool], np.array(labels), 24, 0.2)[0], rel=1e-4)


def test_errors_cover_other_images() -> None:
    """The spread of the loss over fresh images is what the error says."""
    runs = [
        separation("net", pictures(240, seed=s) + PROTOTYPES[LABELS], LABELS, 12, layers=("stem.0",)) for s in range(24)
    ]
    for name in ("snnl", "snnl_best"):
        values = np.array([float(run[name][0]) for run in runs])
        errors = np.array([float(run[f"{name}_error"][0]) for run in runs])
        assert 0.6 < np.sqrt((errors**2).mean()) / values.std(ddof=1) < 1.6


LABELS = [i % 3 for i in range(240)]
PROTOTYPES = pictures(3, seed=7)


def test_a_resumed_run_gives_the_same_bits(tmp_path: Path) -> None:
    images = TensorImages(*labelled())
    models, run = [known("vit"), known("net")], {"minibatch": 10, "batch": 20, "repeats": 2}
    whole = seelike.compare(models, images, [seelike.Separation()], **run)
    with pytest.raises(Interrupted):
        seelike.compare(models, images, [seelike.Separation()], tmp_path, progress=StopAfter(60), **run)
    resumed = seelike.compare(models, images, [seelike.Separation()], tmp_path, resume=True, **run)
    for model in ("vit", "net"):
        a, b = (tree[f"separation/{model}"].to_dataset() for tree in (whole, resumed))
        xr.testing.assert_identical(a.drop_attrs(), b.drop_attrs())


def test_bad_images_are_named() -> None:
    x, labels = labelled(40)
    with pytest.raises(SeelikeError, match="study separation needs labels"):
        seelike.compare(known("net"), x, [seelike.Separation()])
    with pytest.raises(SeelikeError, match="at least two classes, and all 40 images shown are of the class '5'"):
        separation("net", x, [5] * 40)
    with pytest.raises(SeelikeError, match=r"no minibatch of 8 holds two of one class \(40 classes\)"):
        separation("net", x, list(range(40)), 8)
    with pytest.raises(SeelikeError, match=r"separation.pool cls fits none of the 3 layers chosen \(units.0"):
        separation("net", x, labels, pool="cls")
    with pytest.raises(SeelikeError, match=r"separation\.temperature must be positive"):
        seelike.Separation(temperature=0)
    with pytest.raises(SeelikeError, match="euclidean or cosine"):
        seelike.Separation(distance="manhattan")
    x[5] = torch.nan
    with pytest.raises(SeelikeError, match=r"NaN or infinite values in net at units\.0"):
        separation("net", x, labels)


class Blind(nn.Module):
    """Sees nothing in its first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.blind = nn.Conv2d(3, 4, 8, 8)
        nn.init.zeros_(self.blind.weight)
        self.seeing = nn.Conv2d(3, 4, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return (self.blind(x) + self.seeing(x)).mean((2, 3))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_a_layer_that_does_not_vary_has_no_loss(distance: str) -> None:
    torch.manual_seed(0)
    model = seelike.Model(Blind(), (3, 32, 32), "blind")
    if distance == "cosine":
        nn.init.zeros_(model.module.blind.bias)
    study = seelike.Separation(("blind", "seeing"), distance=distance)
    tree = seelike.compare(model, TensorImages(*labelled(40)), [study], minibatch=10)
    values = tree["separation/blind"]["snnl"].values
    assert np.isnan(values[0])
    assert np.isfinite(values[1])
    assert "blind: blind did not vary" in str(json.loads(tree.attrs["run"])["notes"])


def test_findings_and_figures_say_what_the_results_hold() -> None:
    images = TensorImages(*labelled())
    study = seelike.Separation()
    tree = seelike.compare([known("vit"), known("net")], images, [study], minibatch=24)
    net = tree["separation/net"].to_dataset()
    findings = [f for f in json.loads(tree.attrs["findings"]) if f["models"] == ["net"]]
    best = net["snnl_best"].values
    assert findings[0]["value"] == pytest.approx((best[:-1] - best[1:]).max())
    assert findings[1]["value"] == pytest.approx((best[1] - best[2]) - (best[0] - best[1]))
    assert findings[1]["verdict"] in ("holds", "does not hold", "cannot tell")
    assert not [f for f in json.loads(tree.attrs["findings"]) if f["models"] == ["vit"] and f["claim"]]
    figures = study.figures(tree)
    assert set(figures) == {"separation"}
    drawn = figures["separation"].axes[0].get_lines()[0].get_ydata()
    np.testing.assert_allclose(drawn, tree["separation/vit"]["snnl_best"])
    with pytest.raises(SeelikeError, match="no two snapshots of one training"):
        over_training(tree)


@pytest.mark.parametrize("label", ["net@{:04}", "net@{:04}.safetensors"])
def test_snapshots_of_a_training_are_drawn_by_epoch(label: str) -> None:
    models = [seelike.Model(known("net").module, (3, 32, 32), label.format(epoch)) for epoch in (10, 2)]
    study = seelike.Separation()
    tree = seelike.compare(models, TensorImages(*labelled(48)), [study], minibatch=24)
    figure = study.figures(tree)["separation-training"]
    assert figure.axes[0].get_title() == "net"
    assert figure.axes[0].get_lines()[0].get_xdata().tolist() == [2, 10]
