"""Attention distance, entropy and prefix share against known answers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seelike.measures import attention_distance, attention_entropy, pixel_distances, prefix_share, uniform_distance


def places(grid: int, image: float = 224) -> Tensor:
    """Patch centres (grid * grid, 2), written out."""
    patch = image / grid
    return torch.tensor([[(r + 0.5) * patch, (c + 0.5) * patch] for r in range(grid) for c in range(grid)])


@pytest.mark.parametrize(
    ("grid", "plain", "with_cls"), [(7, 115.50, 113.19), (14, 116.49, 115.90), (16, 116.57, 116.11)]
)
def test_uniform_attention(grid: int, plain: float, with_cls: float) -> None:
    """Numbers of paper.md 2.2 at 224 pixels, class token dropped without renormalising."""
    distances = pixel_distances(places(grid), places(grid))
    n = grid * grid
    assert uniform_distance(distances) == pytest.approx(plain, abs=5e-3)
    assert uniform_distance(distances, 1) == pytest.approx(with_cls, abs=5e-3)
    assert uniform_distance(distances, 1, renormalize=True) == pytest.approx(plain, abs=5e-3)
    weights = torch.full((2, 3, n + 1, n + 1), 1 / (n + 1), dtype=torch.float64)
    prefix = {"query_prefix": 1, "key_prefix": 1}
    found = attention_distance(weights, distances, **prefix)
    assert found.shape == (2, 3)
    torch.testing.assert_close(found, torch.full_like(found, uniform_distance(distances, 1)))
    renormalized = attention_distance(weights, distances, **prefix, renormalize=True)
    torch.testing.assert_close(renormalized, torch.full_like(found, uniform_distance(distances)))


def test_uniform_at_384_pixels_and_the_continuous_limit() -> None:
    distances = pixel_distances(places(24, 384), places(24, 384))
    assert uniform_distance(distances) == pytest.approx(200.05, abs=5e-3)
    fine = pixel_distances(places(40), places(40))
    limit = 224 * (2 + math.sqrt(2) + 5 * math.asinh(1)) / 15  # mean distance of two points of a square
    assert uniform_distance(fine) == pytest.approx(limit, rel=1e-3)


def test_identity_looks_nowhere_else() -> None:
    distances = pixel_distances(places(7), places(7))
    assert attention_distance(torch.eye(49), distances) == 0
    assert distances.diagonal().abs().max() == 0


def test_one_step_shift_is_one_patch() -> None:
    """All but the last column look one patch to the right, the last at itself."""
    shift = torch.zeros(196, 196)
    for token in range(196):
        shift[token, token + (token % 14 < 13)] = 1
    distance = attention_distance(shift, pixel_distances(places(14), places(14)))
    assert distance == pytest.approx(16 * 13 / 14, rel=1e-6)


def test_uniform_three_by_three_neighbourhood() -> None:
    """12.88 patch-sixteenths per step: 17.17 pixels for patches of 16 inside the image (paper.md 2.2)."""
    weights = torch.zeros(1, 196)
    centre = 7 * 14 + 7
    weights[0, [centre + 14 * r + c for r in (-1, 0, 1) for c in (-1, 0, 1)]] = 1 / 9
    distances = pixel_distances(places(14)[centre : centre + 1], places(14))
    assert attention_distance(weights, distances) == pytest.approx(16 * (4 + 4 * math.sqrt(2)) / 9, rel=1e-6)
    assert attention_distance(weights, distances) == pytest.approx(17.17, abs=5e-3)


def test_linear_in_patch_size_and_in_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 16, 16, generator=generator, dtype=torch.float64).softmax(-1)
    small, large = (pixel_distances(places(4, image), places(4, image)) for image in (32, 96))
    torch.testing.assert_close(3 * attention_distance(a, small), attention_distance(a, large))
    mixed = attention_distance(0.3 * a + 0.7 * b, small)
    torch.testing.assert_close(mixed, 0.3 * attention_distance(a, small) + 0.7 * attention_distance(b, small))


def by_loops(weights: Tensor, queries: Tensor, keys: Tensor, prefix: int, renormalize: bool) -> tuple[float, ...]:
    """Distance, entropy and prefix share of one head, number by number."""
    distance = entropy = share = 0.0
    for q in range(len(queries)):
        row = weights[prefix + q].tolist()
        given = [a * math.dist(queries[q].tolist(), keys[k].tolist()) for k, a in enumerate(row[prefix:])]
        distance += sum(given) / (sum(row[prefix:]) if renormalize else 1)
        entropy -= sum(a * math.log(a) for a in row if a > 0)
        share += sum(row[:prefix])
    return distance / len(queries), entropy / len(queries), share / len(queries)


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_equals_loops_with_prefix_tokens_and_reduced_keys(prefix: int, renormalize: bool) -> None:
    generator = torch.Generator().manual_seed(prefix)
    weights = torch.randn(2, 3, prefix + 16, prefix + 4, generator=generator, dtype=torch.float64).mul(2).softmax(-1)
    queries, keys = places(4, 32), places(2, 32)
    distances = pixel_distances(queries, keys)
    found = attention_distance(weights, distances, query_prefix=prefix, key_prefix=prefix, renormalize=renormalize)
    entropy, share = attention_entropy(weights, prefix), prefix_share(weights, prefix, prefix)
    for n in range(2):
        for h in range(3):
            expected = by_loops(weights[n, h], queries, keys, prefix, renormalize)
            assert (float(found[n, h]), float(entropy[n, h]), float(share[n, h])) == pytest.approx(expected, rel=1e-12)


def test_what_a_class_token_takes_counts_as_no_distance() -> None:
    """Half of all attention moved to the class token: half the distance, and the same one renormalised."""
    distances = pixel_distances(places(4, 32), places(4, 32))
    weights = torch.full((17, 17), 0.5 / 16)
    weights[:, 0] = 0.5
    prefix = {"query_prefix": 1, "key_prefix": 1}
    assert attention_distance(weights, distances, **prefix) == pytest.approx(uniform_distance(distances) / 2)
    assert attention_distance(weights, distances, **prefix, renormalize=True) == pytest.approx(
        uniform_distance(distances)
    )
    assert prefix_share(weights, 1, 1) == 0.5


def test_a_query_that_sees_only_the_class_token_is_left_out_when_renormalised() -> None:
    distances = pixel_distances(places(2, 8), places(2, 8))
    weights = torch.full((5, 5), 0.25)
    weights[:, 0] = 0
    weights[2] = torch.tensor([1.0, 0, 0, 0, 0])
    kept = attention_distance(weights, distances, query_prefix=1, key_prefix=1, renormalize=True)
    assert kept == pytest.approx(float(distances[[0, 2, 3]].mean()))


def test_entropy_of_one_key_and_of_all() -> None:
    assert attention_entropy(torch.eye(9)) == 0
    assert attention_entropy(torch.full((9, 9), 1 / 9)) == pytest.approx(math.log(9))
    assert attention_entropy(torch.tensor([[1.5, -0.5]])) == -math.inf
