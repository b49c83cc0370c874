from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seelike.measures.ridge import (
    LAMBDAS,
    STD_EPSILON,
    Affine,
    RidgeSums,
    best_lambda,
    class_targets,
    correct,
    ridge_path,
    ridge_path_from_sums,
)

SHAPES = [(60, 7), (20, 33)]  # d < n and d > n


def data(n: int, d: int, m: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features of unlike sizes and means to fit and to predict, and targets."""
    g = torch.Generator().manual_seed(seed)
    size = torch.logspace(-1, 2, d, dtype=torch.float64)
    mean = 30 * torch.randn(d, generator=g, dtype=torch.float64)
    fit, new = (size * (torch.randn(k, d, generator=g, dtype=torch.float64) + mean) for k in (n, 11))
    return fit, torch.randn(n, m, generator=g, dtype=torch.float64), new


def dense(fit: Tensor, targets: Tensor, new: Tensor, penalty: float) -> Tensor:
    """The d x d system of paper.md 2.5 with an intercept, solved as it stands."""
    mean, std = fit.mean(0), fit.std(0, correction=0) + STD_EPSILON
    x, y = (fit - mean) / std, targets - targets.mean(0)
    weights = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)
    return (new - mean) / std @ weights + targets.mean(0)


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("penalty", [LAMBDAS[0], 1.0, 300.0])
def test_paths_are_the_dense_solution(n: int, d: int, penalty: float) -> None:
    fit, targets, new = data(n, d)
    expected = dense(fit, targets, new, penalty)
    path = ridge_path(fit, targets)
    torch.testing.assert_close(path.at(penalty)(new), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(path.along(new, [7.0, penalty])[1], expected, rtol=1e-9, atol=1e-9)
    # Sums of squares lose digits where means are large: here (mean / std)^2 is up to 5,000.
    summed = ridge_path_from_sums(RidgeSums.of(fit[:9], targets[:9]) + RidgeSums.of(fit[9:], targets[9:]))
    torch.testing.assert_close(summed.at(penalty)(new), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_is_scikit_learns_ridge_on_standardised_features(n: int, d: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    fit, targets, new = data(n, d)
    mean, std = fit.mean(0), fit.std(0, correction=0) + STD_EPSILON
    path = ridge_path(fit, targets)
    for penalty in (0.01, 1.0, 1000.0):
        theirs = linear_model.Ridge(alpha=penalty).fit(((fit - mean) / std).numpy(), targets.numpy())
        expected = torch.from_numpy(theirs.predict(((new - mean) / std).numpy()))
        torch.testing.assert_close(path.at(penalty)(new), expected, rtol=1e-9, atol=1e-9)


def test_the_smaller_space_is_worked_in() -> None:
    for n, d in SHAPES:
        assert ridge_path(*data(n, d)[:2]).values.shape == (min(n, d),)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_size_and_origin_of_features_do_not_matter_but_mixing_them_does(n: int, d: int) -> None:
    fit, targets, new = data(n, d)
    before = ridge_path(fit, targets).at(5.0)(new)
    scale, shift = torch.linspace(0.5, 40, d, dtype=torch.float64), torch.linspace(-9, 3, d, dtype=torch.float64)
    after = ridge_path(fit * scale + shift, targets).at(5.0)(new * scale + shift)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)  # up to the epsilon beside the std
    mixing = torch.randn(d, d, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    mixed = ridge_path(fit @ mixing, targets).at(5.0)(new @ mixing)
    assert (mixed - before).abs().max() > 0.1


def test_batches_and_one_lambda_for_each() -> None:
    fits, targets, news = zip(*(data(15, 40, seed=seed) for seed in range(4)), strict=True)
    penalties = torch.tensor([0.5, 2.0, 8.0, 1e4], dtype=torch.float64)
    together = ridge_path(torch.stack(fits), torch.stack(targets)).at(penalties)(torch.stack(news))
    for number, (fit, target, new) in enumerate(zip(fits, targets, news, strict=True)):
        alone = ridge_path(fit, target).at(float(penalties[number]))(new)
        torch.testing.assert_close(together[number], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_slots_that_were_not_filled_do_not_count(n: int, d: int) -> None:
    fit, targets, new = data(n, d)
    present = torch.ones(n + 3, dtype=torch.bool)
    present[[0, 5, n + 2]] = False
    rows, wanted = torch.zeros(n + 3, d, dtype=torch.float64), torch.ones(n + 3, 3, dtype=torch.float64)
    rows[present], wanted[present] = fit, targets
    masked = ridge_path(rows, wanted, present).at(2.0)(new)
    torch.testing.assert_close(masked, ridge_path(fit, targets).at(2.0)(new), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_a_feature_that_does_not_vary_has_no_part(n: int, d: int) -> None:
    fit, targets, new = data(n, d)
    still = torch.full((n, 1), 1234.567, dtype=torch.float64)
    wider, elsewhere = torch.cat([fit, still], 1), torch.cat([new, torch.full((11, 1), -9e9)], 1)
    for path in (ridge_path(wider, targets), ridge_path_from_sums(RidgeSums.of(wider, targets))):
        torch.testing.assert_close(path.at(1.0)(elsewhere), ridge_path(fit, targets).at(1.0)(new), rtol=1e-6, atol=1e-6)


def test_single_precision_predictions_keep_their_digits_beside_large_means() -> None:
    fit, targets, new = data(60, 7)
    solution: Affine = ridge_path(fit, targets).at(1.0)
    single = solution.to(torch.float32)(new.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), solution(new), rtol=1e-3, atol=1e-3)


def test_labels_among_the_features_are_read_and_foreign_ones_are_not() -> None:
    g = torch.Generator().manual_seed(3)
    labels = torch.arange(10).repeat(200)
    targets = class_targets(labels, 10)
    assert targets.sum(1).tolist() == [-8.0] * 2000
    noise = torch.randn(2000, 20, generator=g, dtype=torch.float64)
    known = torch.cat([noise, targets], 1)
    hit = correct(ridge_path(known[:1000], targets[:1000]).at(1.0)(known[1000:]), labels[1000:])
    assert bool(hit.all())
    shuffled = labels[torch.randperm(2000, generator=g)]
    hit = correct(ridge_path(known[:1000], class_targets(shuffled, 10)[:1000]).at(1.0)(known[1000:]), shuffled[1000:])
    assert abs(float(hit.double().mean()) - 0.1) < 4 * (0.1 * 0.9 / 1000) ** 0.5


def test_of_equally_good_lambdas_the_largest_is_taken() -> None:
    scores = torch.tensor([[1, 5], [3, 5], [3, 5], [2, 1]])
    assert best_lambda(scores).tolist() == [2, 2]
