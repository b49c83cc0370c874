"""CKA of tokens with patches, against one pair at a time in float64 and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from seelike.measures import cka_from_products, hsic_products
from seelike.measures.localization import (
    grid_distances,
    join_positions,
    on_border,
    own_patch_hit,
    own_patch_margin,
    own_patch_rank,
    patches_of,
    peak_distance,
    token_sums,
)

NAN = float("nan")


def song(x: np.ndarray, y: np.ndarray) -> float:
    """n (n - 3) HSIC_1 as Song et al. write it, traces and sums of Grams without their diagonals."""
    n = len(x)
    k, l = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    one = np.ones(n)
    return float(np.trace(k @ l) + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * one @ k @ l @ one)


def test_all_pairs_equal_one_pair_at_a_time() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(9, 5, 7, generator=generator) + 3  # a mean beside which the spread is small
    patches = torch.randn(9, 4, 3, generator=generator) + tokens[:, :4, :3]
    a, b = token_sums(tokens), token_sums(patches)
    x, y = tokens.double().numpy(), patches.double().numpy()
    expected = [[song(x[:, t], y[:, p]) for p in range(4)] for t in range(5)]
    np.testing.assert_allclose(hsic_products(a.sums, b.sums), expected, rtol=1e-4, atol=2e-4)
    np.testing.assert_allclose(a.own, [song(x[:, t], x[:, t]) for t in range(5)], rtol=1e-5)
    exact = token_sums(tokens.double()), token_sums(patches.double())
    np.testing.assert_allclose(hsic_products(exact[0].sums, exact[1].sums), expected, rtol=1e-9)
    np.testing.assert_allclose(a.size, 9 * np.square(x[0]).sum(-1), rtol=1e-6)


def test_pieces_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randn(6, 11, 4)
    whole = token_sums(features).sums.upper
    monkeypatch.setattr("seelike.measures.localization.CHUNK_BYTES", 3 * 6 * 4 * 4)
    np.testing.assert_allclose(token_sums(features).sums.upper, whole, rtol=1e-5, atol=1e-6)


def test_constant_tokens_have_exactly_no_product() -> None:
    features = torch.randn(8, 3, 5)
    features[:, 1] = 0.1
    made = token_sums(features)
    assert made.own[1] == 0
    assert made.sums.spread[1] == 0
    assert bool((made.own[[0, 2]] > 0).all())


def test_too_few_examples() -> None:
    with pytest.raises(ValueError, match="at least 4 examples"):
        token_sums(torch.randn(3, 2, 2))


def test_patches_row_by_row() -> None:
    images = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    found = patches_of(images, (2, 3))
    assert found.shape == (2, 6, 12)
    assert torch.equal(found[1, 4].reshape(3, 2, 2), images[1, :, 2:4, 2:4])  # row 1, column 1
    assert torch.equal(found[0, 2].reshape(3, 2, 2), images[0, :, 0:2, 4:6])


def test_patches_of_a_grid_that_does_not_divide_the_image() -> None:
    images = torch.randn(4, 1, 5, 5)
    found = patches_of(images, (2, 2)).reshape(4, 2, 2, 3, 3)  # rows 0-1 and 2-4
    assert torch.equal(found[:, 1, 1], images[:, 0, 2:, 2:])
    assert torch.equal(found[:, 0, 1, :2], images[:, 0, :2, 2:])
    assert found[:, 0, :, 2].abs().max() == 0  # what is missing has no variance
    assert found.square().sum() == pytest.approx(float(images.square().sum()), rel=1e-6)


def test_joined_positions_are_the_patches_of_the_map() -> None:
    maps = torch.randn(3, 4, 6, 2)  # rows, columns, channels
    joined = join_positions(maps.reshape(3, 24, 2), (4, 6), 2)
    cut = patches_of(maps.permute(0, 3, 1, 2), (2, 3))
    ours = joined.reshape(3, 6, 2, 2, 2).permute(0, 1, 4, 2, 3)
    assert torch.equal(ours.reshape(3, 6, 8), cut)
    assert join_positions(maps, (4, 6), 1) is maps


def example() -> Tensor:
    return torch.tensor(
        [
            [0.9, 0.1, 0.2, 0.3],  # hit
            [0.5, 0.4, 0.4, 0.1],  # own patch shares ranks 2 and 3
            [0.1, NAN, 0.7, 0.8],  # own patch second, of three that vary
            [NAN, NAN, NAN, NAN],  # constant token
        ],
        dtype=torch.float64,
    )


def test_what_is_read_off_a_map() -> None:
    cka = example()
    distances = torch.tensor([[0.0, 1, 1, 2], [1, 0, 2, 1], [1, 2, 0, 1], [2, 1, 1, 0]])
    np.testing.assert_array_equal(own_patch_hit(cka), [1, 0, 0, NAN])
    np.testing.assert_array_equal(own_patch_rank(cka), [1, 2.5, 2, NAN])
    np.testing.assert_array_equal(peak_distance(cka, distances), [0, 1, 1, NAN])
    np.testing.assert_allclose(own_patch_margin(cka), [0.7, 0.4 - 1 / 3, 0.7 - 0.45, NAN])


def test_tokens_whose_own_patch_is_constant_are_not_counted() -> None:
    cka = torch.eye(3, dtype=torch.float64)
    cka[:, 1] = NAN
    np.testing.assert_array_equal(own_patch_hit(cka), [1, NAN, 1])


def test_equal_cka_everywhere_is_the_middle_rank() -> None:
    cka = torch.full((5, 5), 0.3)
    assert own_patch_hit(cka).mean() == pytest.approx(1 / 5)
    assert own_patch_rank(cka).tolist() == [3.0] * 5
    assert own_patch_margin(cka).abs().max() < 1e-6


def test_distances_and_borders() -> None:
    distances = grid_distances((2, 3), 20, 60)
    assert distances[0, 5] == pytest.approx((10**2 + 40**2) ** 0.5)
    assert on_border((3, 4)).reshape(3, 4)[1].tolist() == [True, False, False, True]
    assert int(on_border((3, 4)).sum()) == 10


def test_a_token_is_like_the_patch_that_it_turns() -> None:
    """Orthogonal maps, scale and shift of a patch leave CKA at 1; a shear does not."""
    generator = torch.Generator().manual_seed(1)
    patches = torch.randn(40, 3, 6, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
    b = token_sums(patches)
    for tokens, alike in ((3 * patches @ turn + 5, True), (patches @ torch.diag(torch.arange(6.0).double()), False)):
        a = token_sums(tokens)
        cka = cka_from_products(hsic_products(a.sums, b.sums), a.own, b.own)
        assert bool(torch.isclose(cka.diagonal(), torch.ones(3, dtype=torch.float64)).all()) is alike
        assert own_patch_hit(cka).min() == 1
