"""The pass: interruption, memory, pieces, workers; the tally must not know of any of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import seelike
from ctrl_c import StopAfter
from nets import pictures, small_net, tiny_vit
from seelike.comparison import compare
from seelike.errors import SeelikeError
from seelike.passes import Interrupted, forward, memory

STUDY = [seelike.Similarity("all")]


@pytest.fixture(scope="module")
def models() -> list[seelike.Model]:
    return [seelike.Model(tiny_vit(), (3, 32, 32), "vit"), seelike.Model(small_net(), (3, 32, 32), "net")]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return pictures(90)


def maps(tree) -> list[np.ndarray]:
    datasets = [n for a in tree["similarity"].children.values() for n in a.children.values()]
    return [d[v].values for d in datasets for v in ("cka", "cka_error")]


def same(a, b) -> bool:
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(maps(a), maps(b), strict=True))


@pytest.mark.parametrize("repeats", [1, 2])
def test_a_resumed_run_gives_the_same_bits(models, images, tmp_path: Path, repeats: int) -> None:
    options = {"minibatch": 8, "batch": 16, "seed": 3, "repeats": repeats}
    whole = compare(models, images, STUDY, **options)
    for stop in (20, 40):
        with pytest.raises(Interrupted, match="go on with the same command and --resume"):
            compare(models, images, STUDY, tmp_path / "run", resume=stop > 20, progress=StopAfter(stop), **options)
        assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["state"]
    watcher = StopAfter(10**6)
    resumed = compare(models, images, STUDY, tmp_path / "run", resume=True, progress=watcher, **options)
    assert watcher.done >= 48
    assert same(whole, resumed)
    assert not (tmp_path / "run" / "state").exists()
    assert same(whole, seelike.open_results(tmp_path / "run"))


def test_resuming_another_run_is_refused_and_says_what_differs(models, images, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        compare(models, images, STUDY, tmp_path, minibatch=8, batch=8, progress=StopAfter(8))
    with pytest.raises(SeelikeError, match=r"differs from this one \(--seed: 0 then, 1 now\)"):
        compare(models, images, STUDY, tmp_path, minibatch=8, batch=8, seed=1, resume=True)
    other = [models[0], seelike.Model(small_net(units=1), (3, 32, 32), "net")]
    with pytest.raises(SeelikeError, match="weights of net"):
        compare(other, images, STUDY, tmp_path, minibatch=8, batch=8, resume=True)
    with pytest.raises(SeelikeError, match="holds an interrupted run; go on with --resume"):
        compare(models, images, STUDY, tmp_path, minibatch=8, batch=8)
    with pytest.raises(SeelikeError, match="interrupted run, no results yet"):
        seelike.open_results(tmp_path)


def test_a_damaged_state_is_named(models, images, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "pass.safetensors").write_bytes(b"no state at all")
    with pytest.raises(SeelikeError, match=r"pass\.safetensors cannot be read .* start again"):
        compare(models, images, STUDY, tmp_path, minibatch=8, resume=True)


@pytest.mark.parametrize("batch", [1, 5, 8, 40, 90])
def test_the_forward_batch_does_not_matter(models, images, batch: int) -> None:
    """Minibatches of 16 as they are, in pieces, or several at once."""
    usual = compare(models, images, STUDY, minibatch=16, batch=16)
    for a, b in zip(maps(usual), maps(compare(models, images, STUDY, minibatch=16, batch=batch)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_layers_that_do_not_fit_together_are_taken_in_rounds(models, images, monkeypatch) -> None:
    usual = compare(models, images, STUDY, minibatch=30, batch=30)
    monkeypatch.setattr(forward, "available_bytes", lambda _: 300_000)
    runs = []
    anatomy = models[0].anatomy
    real = type(anatomy).run
    monkeypatch.setattr(type(anatomy), "run", lambda self, i, t, **k: (runs.append(len(t)), real(self, i, t, **k))[1])
    rounds = compare(models, images, STUDY, minibatch=30, batch=10)
    assert max(runs) < len(anatomy.layers)  # never all layers at once
    for a, b in zip(maps(usual), maps(rounds), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_memory_that_runs_out_halves_the_batch_and_not_the_minibatch(models, images, monkeypatch) -> None:
    usual = compare(models, images, STUDY, minibatch=16, batch=16)
    real = type(models[0].anatomy).run

    def small(self, inputs, taps, **options):
        if len(inputs[0]) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return real(self, inputs, taps, **options)

    monkeypatch.setattr(type(models[0].anatomy), "run", small)
    watcher = StopAfter(10**6)
    halved = compare(models, images, STUDY, minibatch=16, batch=32, progress=watcher)
    told = [s for s in watcher.told if "memory ran out" in s]
    assert told[0] == "vit: memory ran out with 32 images at a time; going on with 16"
    assert told[-1].endswith("going on with 4")
    assert json.loads(halved.attrs["run"])["forward_batch"] == 4
    assert json.loads(halved.attrs["run"])["options"]["minibatch"] == 16
    for a, b in zip(maps(usual), maps(halved), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_memory_that_one_image_exhausts_is_an_error(models, images, monkeypatch) -> None:
    def none(self, inputs, taps, **options):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: tried 9")

    monkeypatch.setattr(type(models[0].anatomy), "run", none)
    with pytest.raises(SeelikeError, match="vit: memory runs out with a single image"):
        compare(models, images, STUDY, minibatch=16)


def test_other_errors_are_not_mistaken_for_memory(models, images, monkeypatch) -> None:
    def broken(self, inputs, taps, **options):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(type(models[0].anatomy), "run", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        compare(models, images, STUDY, minibatch=16)


def test_nan_names_model_site_and_minibatch(images) -> None:
    net = small_net()
    net.units[1].conv2.weight.data[0] = float("nan")
    model = seelike.Model(net, (3, 32, 32), "broken")
    with pytest.raises(
        SeelikeError, match=r"NaN or infinite values in broken at units\.1\.conv2 \(8, 8, 8\), in minibatch 0"
    ):
        compare(model, images, STUDY, minibatch=16)


def test_nan_in_one_image_names_its_minibatch(models, images) -> None:
    spoiled = images.clone()
    spoiled[40, 0, 0, 0] = float("inf")
    with pytest.raises(SeelikeError, match=r"NaN or infinite values in vit at patch_embed"):
        compare(models, spoiled, STUDY, minibatch=16)


def test_the_plan_of_memory_is_told_before_work(models, images) -> None:
    watcher = StopAfter(10**6)
    compare(models, images, STUDY, minibatch=16, batch=8, progress=watcher)
    assert watcher.told[0].startswith("memory plan: forward batch 8; parameters ")
    assert "minibatch kept in pieces" in watcher.told[0]


def test_the_batch_follows_the_free_memory(models, monkeypatch) -> None:
    from seelike.passes import PassOptions, make_plan
    from seelike.studies import Similarity

    named = {m.name: m for m in models}
    plan = make_plan(400, PassOptions(minibatch=8))
    fold = Similarity("all").begin({k: m.anatomy for k, m in named.items()}, plan.design)
    per_image = max(m.anatomy.live_bytes_per_image() for m in models)
    for free, batch in ((10**12, 64), (per_image * 2 * 20, 16), (per_image * 2 * 5, 5), (1, 1)):
        monkeypatch.setattr(memory, "available_bytes", lambda _, free=free: free)
        assert memory.make_memory_plan(named, [fold], plan, None, 0).batch == batch
    monkeypatch.setattr(memory, "available_bytes", lambda _: 10**12)
    monkeypatch.setattr(memory, "SMALL", per_image - 1)  # as if the models were large
    assert memory.make_memory_plan(named, [fold], plan, None, 0).batch == 32


def test_repeats_draw_fresh_images_and_report_their_spread(models, images) -> None:
    tree = compare(models[1], images, STUDY, minibatch=8, repeats=3, limit=40)
    result = tree["similarity/net/net"]
    singles = [
        compare(models[1], images, STUDY, minibatch=8, repeats=r, limit=40)["similarity/net/net"]["cka"].values * r
        for r in (1, 2, 3)
    ]
    each = [singles[0], singles[1] - singles[0], singles[2] - singles[1]]
    np.testing.assert_allclose(result["cka"], np.mean(each, 0), atol=1e-12)
    np.testing.assert_allclose(result["cka_repeat_sd"], np.std(each, 0, ddof=1), atol=1e-9)
    assert result.attrs["images"] == 40


def test_an_interrupted_overwrite_keeps_the_old_results_until_it_is_gone_on_with(
    models, images, tmp_path: Path
) -> None:
    compare(models, images, STUDY, tmp_path, minibatch=8, seed=1)
    old = (tmp_path / "results.nc").read_bytes()
    with pytest.raises(Interrupted):
        compare(models, images, STUDY, tmp_path, minibatch=8, batch=8, overwrite=True, progress=StopAfter(16))
    assert (tmp_path / "results.nc").read_bytes() == old
    with pytest.raises(SeelikeError, match="holds an interrupted run; go on with --resume"):
        compare(models, images, STUDY, tmp_path, minibatch=8)
    watcher = StopAfter(10**6)
    compare(models, images, STUDY, tmp_path, minibatch=8, batch=8, resume=True, progress=watcher)
    assert watcher.done == 16
    assert (tmp_path / "results.nc").read_bytes() != old
    assert not (tmp_path / "state").exists()
