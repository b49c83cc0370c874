"""Norm ratios and cosines of constructed residual sums."""

from __future__ import annotations

import math

import pytest
import torch

from seelike.measures import skip_measures


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_branch_of_half_the_skip_has_ratio_two_and_cosines_one() -> None:
    z = random(3, 7, 16)
    measures = skip_measures(z, 0.5 * z)
    one = torch.ones(3, 7, dtype=torch.float64)
    torch.testing.assert_close(measures.ratio, 2 * one, rtol=1e-14, atol=0)
    torch.testing.assert_close(measures.cosine_output, one, rtol=1e-14, atol=0)
    torch.testing.assert_close(measures.cosine_branch, one, rtol=1e-14, atol=0)


@pytest.mark.parametrize("ratio", [0.1, 1.0, 2.0, 5.0])
def test_a_branch_at_right_angles(ratio: float) -> None:
    """cos(z, z + f) = r / sqrt(1 + r^2): .707 at 1, .894 at 2, .981 at 5."""
    z, f = random(4, 10), random(4, 10, seed=1)
    f -= (f * z).sum(-1, keepdim=True) / (z * z).sum(-1, keepdim=True) * z
    f *= z.norm(dim=-1, keepdim=True) / f.norm(dim=-1, keepdim=True) / ratio
    measures = skip_measures(z, f)
    want = torch.full((4,), ratio, dtype=torch.float64)
    torch.testing.assert_close(measures.ratio, want)
    torch.testing.assert_close(measures.cosine_output, want / math.sqrt(1 + ratio**2))
    torch.testing.assert_close(measures.cosine_branch, torch.zeros_like(want), rtol=0, atol=1e-14)


def test_a_branch_against_the_skip_turns_it_round() -> None:
    z = random(5, 8)
    measures = skip_measures(z, -3 * z)
    torch.testing.assert_close(measures.cosine_output, -torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(measures.ratio, torch.full((5,), 1 / 3, dtype=torch.float64))


def test_rotation_and_scale_change_nothing_but_norms_and_scaling_one_side_does() -> None:
    z, f = random(6, 12), random(6, 12, seed=1)
    rotation, _ = torch.linalg.qr(random(12, 12, seed=2))
    before, after = skip_measures(z, f), skip_measures(3 * z @ rotation, 3 * f @ rotation)
    for name in ("ratio", "cosine_output", "cosine_branch"):
        torch.testing.assert_close(getattr(before, name), getattr(after, name))
    torch.testing.assert_close(after.skip_norm, 3 * before.skip_norm)
    louder = skip_measures(z, 2 * f)
    torch.testing.assert_close(louder.ratio, before.ratio / 2)
    assert (louder.cosine_output - before.cosine_output).abs().min() > 1e-3


def test_channels_may_be_anywhere() -> None:
    z, f = random(2, 5, 3, 4), random(2, 5, 3, 4, seed=1)
    first, last = skip_measures(z, f, 1), skip_measures(z.movedim(1, -1), f.movedim(1, -1))
    for a, b in zip(first, last, strict=True):
        assert a.shape == (2, 3, 4)
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dim", [1, -1])
def test_large_tensors_are_worked_on_in_pieces(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    z, f = random(5, 24, 6, 10), random(5, 24, 6, 10, seed=1)
    whole = skip_measures(z, f, dim)
    monkeypatch.setattr("seelike.measures.skip.PIECE_BYTES", 5000)
    for a, b in zip(whole, skip_measures(z, f, dim), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=1e-15)
    cosine = torch.nn.functional.cosine_similarity(z, z + f, dim)
    torch.testing.assert_close(skip_measures(z, f, dim).cosine_output, cosine)


def test_what_does_not_exist_is_not_finite() -> None:
    z, zero = torch.ones(1, 4), torch.zeros(1, 4)
    silent, new = skip_measures(z, zero), skip_measures(zero, z)
    assert silent.ratio.isinf().all()
    assert silent.cosine_branch.isnan().all()
    assert silent.cosine_output.item() == 1.0
    assert new.ratio.item() == 0.0
    assert new.cosine_output.isnan().all()


def test_half_precision_is_measured_in_single() -> None:
    z = torch.full((1, 4096), 60000.0, dtype=torch.float16)  # the norm is beyond float16
    measures = skip_measures(z, z)
    assert measures.skip_norm.item() == pytest.approx(60000.0 * 64, rel=1e-3)
    assert measures.cosine_output.item() == pytest.approx(1.0, abs=1e-5)
