"""Standard errors: do 95 % intervals hold the truth as often as they say?"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seelike.anatomy import LayerSite, Layout
from seelike.passes import PassOptions, make_plan
from seelike.studies import Minibatch
from seelike.studies.similarity.fold import SimilarityFold


def site(name: str, width: int) -> LayerSite:
    return LayerSite(name, (), name, 0, 0.0, None, None, "linear", "Linear", (width,), Layout("vector"))


def fold_data(data: dict[str, torch.Tensor], options: PassOptions) -> tuple[SimilarityFold, dict[str, torch.Tensor]]:
    """Pass (n, width) features of layers "a" and "b" of one model through the study."""
    plan = make_plan(len(data["a"]), options)
    sites = tuple(site(name, x.shape[1]) for name, x in data.items())
    fold = SimilarityFold({"m": sites}, "flatten", plan.design, [])
    tally = fold.empty()
    for p in plan.portions:
        minibatch = Minibatch(p.index, p.repeat, p.group, len(p.images), "")
        for s in sites:
            fold.see("m", s, data[s.name][list(p.images)], minibatch)
        fold.finish(minibatch, tally)
    return fold, tally


def gaussian_pair(seed: int, n: int, heavy: bool) -> tuple[dict[str, torch.Tensor], float]:
    """Two linear views of shared Gaussian factors; their CKA over the whole population is known in closed form.

    With `heavy`, every example is stretched by a common random factor, which makes tails heavy and (both views
    being stretched alike) leaves the population's CKA as it is: all second moments are multiplied by one number.
    """
    fixed = torch.Generator().manual_seed(7)
    a = torch.randn(6, 10, generator=fixed, dtype=torch.float64) * torch.linspace(2, 0.3, 6)[:, None]
    b = a[:, :8] + 1.2 * torch.randn(6, 8, generator=fixed, dtype=torch.float64)
    truth = float((a.T @ b).square().sum() / ((a.T @ a).norm() * (b.T @ b).norm()))
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    if heavy:
        z = z * torch.exp(0.4 * torch.randn(n, 1, generator=generator, dtype=torch.float64))
    return {"a": z @ a, "b": z @ b}, truth


@pytest.mark.parametrize("heavy", [False, True])
def test_intervals_cover_the_truth_in_90_to_98_percent_of_200_data_sets(heavy: bool) -> None:
    hits, values, errors = 0, [], []
    for seed in range(200):
        data, truth = gaussian_pair(seed, 640, heavy)
        fold, tally = fold_data(data, PassOptions(minibatch=16))
        estimate = fold.estimates(tally)["m", "m"]
        value, error, _ = estimate.statistic(lambda maps: maps[..., 0, 1])
        hits += abs(float(value) - truth) <= estimate.quantile * float(error)
        values.append(float(value))
        errors.append(float(error))
    assert 180 <= hits <= 196
    assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / 200**0.5)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values), rel=0.2)


def test_intervals_over_repeats_of_the_same_images_cover_too() -> None:
    """Four cuts of the same images are not four samples: the error must not be halved."""
    hits, errors, single = 0, [], []
    for seed in range(200):
        data, truth = gaussian_pair(seed, 320, heavy=False)
        fold, tally = fold_data(data, PassOptions(minibatch=16, repeats=4))
        estimate = fold.estimates(tally)["m", "m"]
        value, error, _ = estimate.statistic(lambda maps: maps[..., 0, 1])
        hits += abs(float(value) - truth) <= estimate.quantile * float(error)
        errors.append(float(error))
        fold, tally = fold_data(data, PassOptions(minibatch=16))
        single.append(float(fold.estimates(tally)["m", "m"].statistic(lambda maps: maps[..., 0, 1])[1]))
    assert 180 <= hits <= 196
    assert 0.6 < np.mean(errors) / np.mean(single) <= 1.05


def test_a_short_tail_changes_nothing() -> None:
    """Independent features, true CKA 0: weighed equally, a tail of 5 would move the estimate many errors away."""
    generator = torch.Generator().manual_seed(0)
    data = {k: torch.randn(8 * 128 + 5, 300, generator=generator, dtype=torch.float64) for k in ("a", "b")}
    plan = make_plan(8 * 128 + 5, PassOptions(minibatch=128))
    assert [len(p.images) for p in plan.portions] == [128] * 7 + [133]

    def cka_with(sizes: list[int]) -> float:
        sites = tuple(site(name, 300) for name in data)
        fold = SimilarityFold({"m": sites}, "flatten", plan.design, [])
        tally, start = fold.empty(), 0
        for index, size in enumerate(sizes):
            minibatch = Minibatch(index, 0, index % 8, size, "")
            for s in sites:
                fold.see("m", s, data[s.name][start : start + size], minibatch)
            fold.finish(minibatch, tally)
            start += size
        return float(fold.estimates(tally)["m", "m"].maps[0, 0, 1])

    without = cka_with([128] * 8)
    assert abs(without) < 0.01
    assert cka_with([128] * 8 + [5]) == pytest.approx(without, abs=2e-4)
    assert cka_with([128] * 7 + [133]) == pytest.approx(without, abs=2e-3)
