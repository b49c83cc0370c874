"""The probe study against an independent reimplementation, and what its numbers must obey."""

from __future__ import annotations

import json
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
from seelike.images.source import BadImage
from seelike.images.tensors import TensorImages
from seelike.measures.ridge import STD_EPSILON
from seelike.passes import Interrupted
from seelike.studies.probe import readers

LAMBDAS = tuple(2.0**p for p in range(-4, 12, 3))


def labelled(n: int = 200, classes: int = 4, seed: int = 0) -> tuple[Tensor, list[int]]:
    """Pictures that have something of their class in them."""
    labels = [i % classes for i in range(n)]
    prototypes = pictures(classes, seed=99)
    return pictures(n, seed=seed) + 0.6 * prototypes[labels], labels


@lru_cache
def known(name: str) -> seelike.Model:
    """Models that several tests probe, read once."""
    nets = {
        "vit": tiny_vit,
        "gap": lambda: tiny_vit(class_token=False, global_pool="avg"),
        "net": lambda: small_net(units=3),
    }
    return seelike.Model(nets[name](), (3, 32, 32), name)


def probe(model: str | nn.Module, x: Tensor, labels: list[int], **options: object) -> xr.Dataset:
    run = {k: options.pop(k) for k in ("minibatch", "batch", "repeats") if k in options}
    study = seelike.LinearProbe(**{"lambdas": LAMBDAS, "shots": 5, "draws": 2, **options})
    subject = known(model) if isinstance(model, str) else seelike.Model(model, tuple(x.shape[1:]), "other")
    tree = seelike.compare(subject, TensorImages(x, labels), [study], **({"minibatch": 16} | run))
    return tree[f"probe/{subject.name}"].to_dataset()


def hooked(net: nn.Module, names: list[str], x: Tensor) -> dict[str, np.ndarray]:
    seen = {}
    modules = dict(net.named_modules())
    handles = [
        modules[name].register_forward_hook(lambda _, __, out, n=name: seen.update({n: out.double().numpy()}))
        for name in names
    ]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return seen


def dense_probe(features: np.ndarray, labels: np.ndarray, fit: list[int], held: list[int], new: list[int]) -> float:
    """Accuracy on `new` of ridge regression on `fit`, lambda from `held`; the normal equations as they stand."""
    mean, std = features[fit].mean(0), features[fit].std(0) + STD_EPSILON
    x = (features - mean) / std
    y = 2.0 * (labels[:, None] == np.unique(labels)) - 1
    centre = y[fit].mean(0)

    def right(penalty: float, rows: list[int]) -> float:
        gram = x[fit].T @ x[fit] + penalty * np.eye(x.shape[1])
        scores = x[rows] @ np.linalg.solve(gram, x[fit].T @ (y[fit] - centre)) + centre
        return float((scores.argmax(1) == labels[rows]).mean())

    accuracies = [right(penalty, held) for penalty in LAMBDAS]
    best = max(range(len(LAMBDAS)), key=lambda i: (accuracies[i], i))
    return right(LAMBDAS[best], new)


def cut(labels: list[int], shots: int, draws: int) -> tuple[list[list[int]], list[int], list[int]]:
    order = [i for part in partition(len(labels), 16) for i in part]
    of_class = {c: [i for i in order if labels[i] == c] for c in set(labels)}
    fits = [[i for c in of_class for i in of_class[c][r * shots : (r + 1) * shots]] for r in range(draws)]
    end = max(order.index(i) for fit in fits for i in fit) + 1
    held = min(shots * len(of_class), (len(order) - end) // 4)
    return fits, order[end : end + held], order[end + held :]


@pytest.mark.parametrize("shots", [5, 10])  # 20 and 40 images of 32 features
def test_is_what_the_normal_equations_give(shots: int) -> None:
    x, labels = labelled()
    data = probe("vit", x, labels, shots=shots)
    seen = hooked(known("vit").module, ["blocks.0", "blocks.1", "blocks.2"], x)
    fits, held, new = cut(labels, shots, 2)
    one_image = 1.01 / len(new)  # float32 may decide a tie otherwise
    for layer, features in enumerate(seen.values()):
        ways = {"cls": features[:, 0], "mean": features.mean(1), "spatial": features[:, 1:].mean(1)}
        for pooling, pooled in ways.items():
            expected = np.mean([dense_probe(pooled, np.array(labels), fit, held, new) for fit in fits])
            assert float(data["accuracy"].sel(pooling=pooling)[layer]) == pytest.approx(expected, abs=one_image)
        for token in (0, 6, 15):
            each = [dense_probe(features[:, 1 + token], np.array(labels), fit, held, new) for fit in fits]
            assert float(data["token_accuracy"][layer, token]) == pytest.approx(np.mean(each), abs=one_image)
    assert data["accuracy"].values.max() > 0.5  # the classes can be told apart
    assert data.attrs["images_evaluated"] == len(new)


class Torn(TensorImages):
    """Some of its images cannot be read."""

    torn: frozenset[int] = frozenset()

    def read(self, index: int) -> Tensor:
        if index in self.torn:
            raise BadImage(self.ids[index], "torn")
        return super().read(index)


@pytest.mark.parametrize("shots", [5, 10])
def test_images_that_cannot_be_read_are_missed_and_nothing_else(shots: int) -> None:
    x, labels = labelled()
    fits, held, new = cut(labels, shots, 2)
    images = Torn(x, labels)
    images.torn = frozenset([fits[0][1], fits[1][7], held[2], new[3], new[9]])
    study = seelike.LinearProbe(shots=shots, draws=2, lambdas=LAMBDAS, tokens=False)
    tree = seelike.compare(known("vit"), images, [study], minibatch=16, on_bad_image="skip")
    features = hooked(known("vit").module, ["blocks.2"], x)["blocks.2"][:, 0]
    fits, held, new = (
        [[i for i in f if i not in images.torn] for f in fits],
        *([i for i in f if i not in images.torn] for f in (held, new)),
    )
    expected = np.mean([dense_probe(features, np.array(labels), fit, held, new) for fit in fits])
    value = float(tree["probe/vit"]["accuracy"].sel(pooling="cls")[2])
    assert value == pytest.approx(expected, abs=1.01 / len(new))


def test_all_data_by_sums_is_what_the_normal_equations_give() -> None:
    x, labels = labelled()
    data = probe("net", x, labels, shots=None, fit_share=0.6)
    order = [i for part in partition(len(labels), 16) for i in part]
    share, held = 120, 15
    for layer, name in enumerate(["units.0", "units.1", "units.2"]):
        features = hooked(known("net").module, [name], x)[name].mean((2, 3))
        rows = order[: share - held], order[share - held : share], order[share:]
        expected = dense_probe(features, np.array(labels), *rows)
        assert float(data["accuracy"].sel(pooling="spatial")[layer]) == pytest.approx(expected, abs=1.01 / 80)


class Eyes(nn.Module):
    """Looks at each patch of 8 pixels apart: one block whose features are the patch's means."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.AvgPool2d(8)
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x)).mean((2, 3))


def test_a_label_in_the_features_is_read_where_it_is_and_nowhere_else() -> None:
    labels = [i % 3 for i in range(300)]
    x = pictures(300)
    x[:, :, 8:16, 24:32] = torch.eye(3)[labels][:, :, None, None]  # row 1, column 3 of the grid
    data = probe(Eyes(), x, labels, layers=("stem",))
    assert float(data["token_accuracy"][0, 7]) == 1
    others = np.delete(data["token_accuracy"].values[0], 7)
    assert abs(others.mean() - 1 / 3) < 0.05
    assert float(data["token_accuracy_error"][0, 7]) < 1e-12
    shuffled = np.random.default_rng(0).permutation(labels).tolist()
    none = probe(Eyes(), x, shuffled, layers=("stem",), tokens=False)
    value, error = float(none["accuracy"][0, 2]), float(none["accuracy_error"][0, 2])
    assert abs(value - 1 / 3) < 3 * error < 0.15


def test_prefix_tokens_are_not_counted_among_positions() -> None:
    labels = [i % 2 for i in range(200)]
    x = pictures(200)
    x[:, :, 16:24, 8:16] += 8 * torch.tensor([-1.0, 1.0])[labels][:, None, None, None]  # row 2, column 1
    data = probe("vit", x, labels, layers=("pos_drop",))
    assert int(data["token_accuracy"].values[0].argmax()) == 9
    assert float(data["token_accuracy"][0, 9]) == 1
    assert data.sizes["token"] == 16


def test_scale_of_a_layer_does_not_matter() -> None:
    x, labels = labelled(160)
    net, scaled = small_net(), small_net()
    with torch.no_grad():
        scaled.stem[0].weight *= 50
        scaled.stem[0].bias *= 50
    a, b = (probe(n, x, labels, layers=("stem.0",)) for n in (net, scaled))
    np.testing.assert_allclose(a["accuracy"], b["accuracy"], atol=1.01 / a.attrs["images_evaluated"])


@pytest.mark.parametrize("options", [{"shots": 6, "draws": 2}, {"shots": None}])
def test_a_resumed_run_gives_the_same_bits(tmp_path: Path, options: dict) -> None:
    x, labels = labelled(160)
    images = TensorImages(x, labels)
    models = [known("vit"), known("net")]
    study = [seelike.LinearProbe(lambdas=LAMBDAS, **options)]
    run = {"minibatch": 8, "batch": 8, "repeats": 2}
    whole = seelike.compare(models, images, study, **run)
    for stop in (24, 56, 64):  # while fitting, choosing, and in the next repeat
        with pytest.raises(Interrupted):
            seelike.compare(models, images, study, tmp_path, resume=stop != 24, progress=StopAfter(stop), **run)
    resumed = seelike.compare(models, images, study, tmp_path, resume=True, **run)
    for model in ("vit", "net"):
        a, b = (tree[f"probe/{model}"].to_dataset() for tree in (whole, resumed))
        assert a.sizes["draw"] == 2 * (options.get("draws", 1))
        xr.testing.assert_identical(a.drop_attrs(), b.drop_attrs())


def test_pieces_and_minibatches_do_not_matter() -> None:
    x, labels = labelled(160)
    usual = probe("vit", x, labels)
    for options in ({"minibatch": 50}, {"batch": 5}):
        other = probe("vit", x, labels, **options)
        for name in ("accuracy", "token_accuracy"):
            np.testing.assert_allclose(usual[name], other[name], atol=1.01 / usual.attrs["images_evaluated"])


def test_logistic_regression_checks_pooled_features() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, labels = labelled()
    data = probe("net", x, labels, draws=1, tokens=False, check="logistic")
    (fit,), held, new = cut(labels, 5, 1)
    features = hooked(known("net").module, ["units.2"], x)["units.2"].mean((2, 3))
    x = (features - features[fit].mean(0)) / (features[fit].std(0) + STD_EPSILON)
    y = np.array(labels)
    fits = [linear_model.LogisticRegression(C=c, max_iter=1000).fit(x[fit], y[fit]) for c in readers.PENALTIES]
    best = max(fits, key=lambda each: each.score(x[held], y[held]))  # the smallest C first
    value = float(data["accuracy_logistic"].sel(pooling="spatial")[-1])
    assert value == pytest.approx(best.score(x[new], y[new]), abs=1.01 / len(new))


def test_a_check_without_its_library_says_so(monkeypatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(readers, "import_module", absent)
    with pytest.raises(SeelikeError, match="pip install scikit-learn"):
        probe("net", *labelled(80), check="logistic")


def test_a_layer_without_tokens() -> None:
    x, labels = labelled(120)
    with pytest.raises(SeelikeError, match=r"none of the 1 layers chosen has tokens .*\(head has shape \(5,\)\)"):
        probe("net", x, labels, layers=("head",))
    data = probe("net", x, labels, layers=("head",), tokens=False)
    assert np.isfinite(data["accuracy"].sel(pooling="spatial")).all()
    assert "token_accuracy" not in data


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": 0}, "probe.shots must be at least 1"),
        ({"lambdas": (2.0, 1.0)}, "positive and ascending"),
        ({"fit_share": 1.0}, "between 0 and 1"),
        ({"check": "svm"}, "none or logistic"),
    ],
)
def test_bad_parameters(options: dict, message: str) -> None:
    with pytest.raises(SeelikeError, match=message):
        seelike.LinearProbe(**options)


def test_nan_is_named() -> None:
    x, labels = labelled(120)
    x[3] = torch.nan
    with pytest.raises(SeelikeError, match=r"NaN or infinite values in net at units\.0"):
        probe("net", x, labels)


def test_findings_and_figures_say_what_the_results_hold() -> None:
    x, labels = labelled()
    models = [known(name) for name in ("vit", "gap", "net")]
    study = seelike.LinearProbe(lambdas=LAMBDAS, shots=5, draws=2)
    tree = seelike.compare(models, TensorImages(x, labels), [study], minibatch=16)
    vit = tree["probe/vit"].to_dataset()
    findings = json.loads(tree.attrs["findings"])
    native = next(f for f in findings if f["models"] == ["vit"] and f["claim"])
    expected = float(vit["accuracy"].sel(pooling="cls")[-1] - vit["token_mean"][-1])
    assert native["value"] == pytest.approx(expected)
    rises = {f["models"][0]: f for f in findings if f["statistic"].startswith("largest rise")}
    steps = vit["accuracy"].sel(pooling="cls").diff("layer")
    assert rises["vit"]["value"] == pytest.approx(float(steps.max()))
    pairs = {tuple(f["models"]) for f in findings if len(f["models"]) == 2}
    assert pairs == {("vit", "gap"), ("vit", "net"), ("net", "vit"), ("net", "gap")}
    figures = study.figures(tree)
    assert set(figures) == {"probe", "probe-tokens-vit", "probe-tokens-gap", "probe-tokens-net"}
    line = figures["probe"].axes[0].get_lines()[0]
    np.testing.assert_allclose(line.get_ydata(), 100 * vit["token_mean"])
