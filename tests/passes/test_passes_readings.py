"""Readings: several tensors of a model looked at together, image by image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import xarray as xr
from torch import Tensor

import seelike
from nets import pictures, small_net, tiny_vit
from seelike.anatomy import Anatomy
from seelike.studies import Design, Finding, Fold, Minibatch, Reading, Study, Tally


@dataclass
class BranchFold(Fold):
    """Sums <skip, branch> per residual sum and counts images."""

    anatomies: Mapping[str, Anatomy]
    notes: list[str] = field(default_factory=list)
    pending: dict[tuple[str, int], dict[str, Tensor]] = field(default_factory=dict)

    def readings(self, model: str) -> Iterable[Reading]:
        return [Reading(r.name, (r.skip, r.branch), r.batch_dim) for r in self.anatomies[model].residuals]

    def read(self, model: str, reading: Reading, tensors: tuple[Tensor, ...], minibatch: Minibatch, images: int):
        skip, branch = tensors
        assert len(skip) == len(branch) == images
        pending = self.pending.setdefault((model, minibatch.index), {})
        products = (skip.double() * branch.double()).flatten(1).sum(1)
        pending[reading.name] = torch.cat([pending.get(reading.name, products[:0]), products])

    def forget(self, model: str, minibatch: Minibatch) -> None:
        self.pending.pop((model, minibatch.index), None)

    def empty(self) -> Tally:
        return {f"branch/{m}": torch.zeros(2, len(a.residuals)).double() for m, a in self.anatomies.items()}

    def finish(self, minibatch: Minibatch, tally: Tally) -> None:
        for model in self.anatomies:
            products = torch.stack(list(self.pending.pop((model, minibatch.index)).values()))
            assert products.shape[1] == minibatch.size
            tally[f"branch/{model}"] += torch.stack([products.sum(1), torch.full((len(products),), minibatch.size)])

    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        mine = {key: value for key, value in tally.items() if key.startswith("branch/")}
        return {key: xr.Dataset({"sum": (("row", "residual"), value.numpy())}) for key, value in mine.items()}

    def findings(self, tally: Tally) -> list[Finding]:
        return []

    def held_bytes(self) -> int:
        return 0


@dataclass(frozen=True)
class Branch(Study):
    name = "branch"
    question = "?"

    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> BranchFold:
        return BranchFold(anatomies)

    def figures(self, results: xr.DataTree) -> dict[str, Any]:
        return {}


def by_hooks(net: torch.nn.Module, x: Tensor) -> Tensor:
    """The same of `small_net`'s units, by hand: branch is bn2's output, skip the unit's input."""
    products = []
    for unit in net.units:
        taken: dict[str, Tensor] = {}
        a = unit.register_forward_pre_hook(lambda _m, i, t=taken: t.update(skip=i[0].double()))
        b = unit.bn2.register_forward_hook(lambda _m, _i, o, t=taken: t.update(branch=o.double().clone()))
        with torch.no_grad():
            net(x)
        a.remove(), b.remove()
        products.append((taken["skip"] * taken["branch"]).sum())
    return torch.stack(products)


@pytest.mark.parametrize("batch", [8, 16, 3])  # a minibatch, two of them, pieces of one
def test_tensors_come_together_whatever_the_forward_batch(batch: int) -> None:
    net, x = small_net(), pictures(24)
    models = [seelike.Model(net, (3, 32, 32), "net"), seelike.Model(tiny_vit(), (3, 32, 32), "vit")]
    tree = seelike.compare(models, x, [Branch(), seelike.Similarity("all")], minibatch=8, batch=batch)
    sums = tree["branch/net"]["sum"].values
    assert sums[1].tolist() == [24, 24]
    torch.testing.assert_close(torch.from_numpy(sums[0].copy()), by_hooks(net, x), rtol=1e-5, atol=1e-3)
    assert tree["branch/vit"]["sum"].shape == (2, 6)
    alone = seelike.compare(models, x, [seelike.Similarity("all")], minibatch=8, batch=batch)
    assert tree["similarity/net/vit"]["cka"].equals(alone["similarity/net/vit"]["cka"])


def test_what_was_read_before_memory_ran_out_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = small_net(), pictures(16)
    calls = []
    original = BranchFold.read

    def read(self, model, reading, *rest) -> None:
        original(self, model, reading, *rest)
        calls.append(reading.name)
        if len(calls) == 2:
            raise MemoryError

    monkeypatch.setattr(BranchFold, "read", read)
    tree = seelike.compare(seelike.Model(net, (3, 32, 32), "net"), x, [Branch()], minibatch=8, batch=8)
    sums = torch.from_numpy(tree["branch/net"]["sum"].values.copy())
    assert sums[1].tolist() == [16, 16]
    torch.testing.assert_close(sums[0], by_hooks(net, x), rtol=1e-5, atol=1e-3)
