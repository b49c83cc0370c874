"""The similarity study against an independent reimplementation, and what its numbers must obey."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

import seelike
from nets import Unit, pictures, small_net, tiny_vit
from seelike.images import partition


def hooked(module: nn.Module, x: torch.Tensor) -> dict[str, np.ndarray]:
    """Outputs of all modules by hooks, copied before anything can overwrite them, (n, features) float64."""
    seen: dict[str, np.ndarray] = {}
    calls: Counter[str] = Counter()

    def keep(name: str):
        def hook(_: nn.Module, __: object, output: object) -> None:
            if isinstance(output, torch.Tensor):
                call = f"{name}@{calls[name]}" if calls[name] else name
                calls[name] += 1
                seen[call] = output.detach().clone().flatten(1).double().numpy()

        return hook

    handles = [m.register_forward_hook(keep(n)) for n, m in module.named_modules() if n]
    with torch.no_grad():
        module(x)
    for handle in handles:
        handle.remove()
    return seen


def song(k: np.ndarray, l: np.ndarray) -> float:
    """n (n - 3) times HSIC_1, as Song et al. 2012 write it."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))
    return float(np.sum(k * l) + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * k.sum(0) @ l.sum(0))


def gram(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(0)
    return x @ x.T


def expected(a: nn.Module, b: nn.Module, images: torch.Tensor, minibatch: int) -> dict[tuple[str, str], float]:
    """CKA of all pairs of module outputs: three sums over minibatches, divided once."""
    sums: dict[tuple[str, str], np.ndarray] = {}
    for rows in partition(len(images), minibatch, limit=None, seed=0, repeat=0):
        x = images[list(rows)]
        left = {name: gram(v) for name, v in hooked(a, x).items()}
        right = {name: gram(v) for name, v in hooked(b, x).items()}
        for i, k in left.items():
            for j, l in right.items():
                products = np.array([song(k, l), song(k, k), song(l, l)])
                sums[i, j] = sums.get((i, j), np.zeros(3)) + products
    with np.errstate(invalid="ignore"):
        return {pair: kl / np.sqrt(kk * ll) for pair, (kl, kk, ll) in sums.items()}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return pictures(53)


@pytest.fixture(scope="module")
def tree(vit_model: seelike.Model, net_model: seelike.Model, images: torch.Tensor):
    return seelike.compare([vit_model, net_model], images, [seelike.Similarity("all")], minibatch=16)


@pytest.mark.parametrize(("a", "b"), [("vit", "net"), ("vit", "vit"), ("net", "net")])
def test_equals_an_independent_float64_implementation(a, b, tree, images, vit_model, net_model) -> None:
    modules = {"vit": vit_model.module, "net": net_model.module}
    truth = expected(modules[a], modules[b], images, 16)
    result = tree[f"similarity/{a}/{b}"].to_dataset()
    rows = {n: i for i, names in enumerate(result["module"].values) for n in names.split(", ")}
    columns = {n: i for i, names in enumerate(result["other_module"].values) for n in names.split(", ")}
    values = result["cka"].values
    compared = 0
    for (i, j), value in truth.items():
        if i in rows and j in columns and np.isfinite(value):
            assert values[rows[i], columns[j]] == pytest.approx(value, abs=1e-6), (i, j)
            compared += 1
    assert compared >= 0.8 * len([v for v in truth.values() if np.isfinite(v)])


def test_a_layer_with_itself_is_exactly_one(tree) -> None:
    for label in ("vit", "net"):
        assert np.diag(tree[f"similarity/{label}/{label}"]["cka"]).tolist() == [1.0] * len(
            tree[f"similarity/{label}/{label}"]["layer"]
        )


def test_self_maps_are_symmetric(tree) -> None:
    values = tree["similarity/vit/vit"]["cka"].values
    np.testing.assert_allclose(values, values.T, atol=1e-14)


class Both(nn.Module):
    """Two models as one."""

    def __init__(self) -> None:
        super().__init__()
        self.vit, self.net = tiny_vit(), small_net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.vit(x) + self.net(x)


def test_a_cross_map_is_the_block_of_the_joint_matrix(tree, images) -> None:
    joint = seelike.compare(Both(), images, [seelike.Similarity("all")], minibatch=16)["similarity/Both/Both"]["cka"]
    cross = tree["similarity/vit/net"]["cka"]
    rows = [n for n in cross["layer"].values if f"vit.{n}" in joint["layer"].values]
    columns = [n for n in cross["other_layer"].values if f"net.{n}" in joint["layer"].values]
    assert (len(rows), len(columns)) > (20, 8)
    block = joint.sel(layer=[f"vit.{n}" for n in rows], other_layer=[f"net.{n}" for n in columns])
    np.testing.assert_allclose(block, cross.sel(layer=rows, other_layer=columns), atol=1e-12)


def test_order_of_models_does_not_matter(tree, images, vit_model, net_model) -> None:
    swapped = seelike.compare([net_model, vit_model], images, [seelike.Similarity("all")], minibatch=16)
    ours, theirs = tree["similarity/vit/net"]["cka"].values, swapped["similarity/net/vit"]["cka"].values
    np.testing.assert_allclose(ours, theirs.T, atol=1e-14)


def test_in_place_activations_do_not_leak_into_the_layer_before(tree) -> None:
    """torch_cka and pytorch-cka report CKA(bn1, relu) = 1 here (peers.md, finding 2)."""
    value = float(tree["similarity/net/net"]["cka"].sel(layer="units.0.bn1", other_layer="units.0.relu"))
    assert 0.3 < value < 0.999


def test_a_constant_layer_is_named_and_undefined(images) -> None:
    net = small_net()
    nn.init.zeros_(net.units[0].bn2.weight)
    nn.init.constant_(net.units[0].bn2.bias, 0.1)
    tree = seelike.compare(seelike.Model(net, (3, 32, 32), "flat"), images, [seelike.Similarity("all")], minibatch=16)
    values = tree["similarity/flat/flat"]["cka"]
    assert np.isnan(values.sel(layer="units.0.bn2")).all()
    assert np.isfinite(values.sel(layer="units.0.bn1", other_layer="units.1.bn1"))
    assert "units.0.bn2 did not vary over the images" in tree.attrs["run"]


def test_a_layer_that_varies_by_rounding_only_counts_as_constant(images) -> None:
    class Rounding(Unit):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x * 1e-9 + 3.0)

    net = small_net()
    net.units[0] = nn.Sequential(Rounding(8)).eval()
    tree = seelike.compare(seelike.Model(net, (3, 32, 32), "flat"), images, [seelike.Similarity("all")], minibatch=16)
    assert np.isnan(tree["similarity/flat/flat"]["cka"].sel(layer="units.0.0.conv1")).all()


def test_three_models_give_six_maps(images, vit_model, net_model) -> None:
    other = seelike.Model(small_net(units=1), (3, 32, 32), name="net")
    tree = seelike.compare([vit_model, net_model, other], images, [seelike.Similarity("blocks")], minibatch=16)
    pairs = {f"{a}/{b}" for a, node in tree["similarity"].children.items() for b in node.children}
    assert pairs == {"vit/vit", "vit/net", "vit/net-2", "net/net", "net/net-2", "net-2/net-2"}
    assert tree["similarity/vit/net-2"]["cka"].shape == (3, 1)


@pytest.mark.parametrize("pool", ["cls", "mean", "spatial"])
def test_pooling_is_that_of_the_tensor(pool, images, vit_model) -> None:
    tree = seelike.compare(vit_model, images, [seelike.Similarity("blocks", pool)], minibatch=16)
    block = hooked(vit_model.module, images)["blocks.1"].reshape(53, 17, 32)
    last = hooked(vit_model.module, images)["blocks.2"].reshape(53, 17, 32)
    reduce = {"cls": lambda t: t[:, 0], "mean": lambda t: t.mean(1), "spatial": lambda t: t[:, 1:].reshape(53, -1)}[
        pool
    ]
    sums = np.zeros(3)
    for rows in partition(53, 16, limit=None, seed=0, repeat=0):
        k, l = gram(reduce(block)[list(rows)]), gram(reduce(last)[list(rows)])
        sums += [song(k, l), song(k, k), song(l, l)]
    value = float(tree["similarity/vit/vit"]["cka"].sel(layer="blocks.1", other_layer="blocks.2"))
    assert value == pytest.approx(sums[0] / np.sqrt(sums[1] * sums[2]), abs=1e-6)
