"""Attention rollout and maps: known answers, invariances, a reimplementation in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from seelike.measures.rollout import attention_rollout, box_cover, rollout_step, token_map, unit_mass


def attention(blocks: int = 3, heads: int = 2, tokens: int = 5, n: int = 2, seed: int = 0) -> Tensor:
    """(blocks, n, heads, tokens, tokens) of rows that sum to 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(blocks, n, heads, tokens, tokens, generator=generator, dtype=torch.float64).mul(2).softmax(-1)


def test_rows_sum_to_one() -> None:
    rollout = attention_rollout(attention(12, 3, 50))
    torch.testing.assert_close(rollout.sum(-1), torch.ones(2, 50, dtype=torch.float64))
    # Also where a block's rows do not (Re-attention, dropped keys): every step is renormalised.
    torch.testing.assert_close(attention_rollout(3 * attention()).sum(-1), torch.ones(2, 5, dtype=torch.float64))


@pytest.mark.parametrize("blocks", [1, 2, 12])
def test_uniform_attention_mixes_by_halves(blocks: int) -> None:
    """((I + J / t) / 2)^L = I / 2^L + (1 - 1 / 2^L) J / t."""
    tokens = 6
    uniform = torch.full((blocks, 4, tokens, tokens), 1 / tokens, dtype=torch.float64)
    left = 0.5**blocks
    expected = left * torch.eye(tokens, dtype=torch.float64) + (1 - left) / tokens
    torch.testing.assert_close(attention_rollout(uniform), expected)


def test_shifts_chain_towards_the_input() -> None:
    """Without skips, two one-step shifts are one two-step shift."""
    shift = torch.roll(torch.eye(5, dtype=torch.float64), 1, 1)[None]  # token i looks at token i + 1
    rollout = attention_rollout([shift, shift], [False, False])
    assert torch.equal(rollout, torch.roll(torch.eye(5, dtype=torch.float64), 2, 1))
    one_skip = attention_rollout([shift, shift], [True, False])
    assert one_skip[0].tolist() == [0, 0.5, 0.5, 0, 0]


def test_equals_loops() -> None:
    weights = attention().numpy()
    blocks, n, heads, tokens, _ = weights.shape
    for image in range(n):
        total = np.eye(tokens)
        for block in range(blocks):
            step = np.zeros((tokens, tokens))
            for i in range(tokens):
                row = [
                    sum(weights[block, image, h, i, j] for h in range(heads)) / heads + (i == j) for j in range(tokens)
                ]
                step[i] = np.array(row) / sum(row)
            total = np.array(
                [[sum(step[i, k] * total[k, j] for k in range(tokens)) for j in range(tokens)] for i in range(tokens)]
            )
        ours = attention_rollout(torch.from_numpy(weights))[image].numpy()
        np.testing.assert_allclose(ours, total, rtol=1e-12)


def test_order_of_heads_is_free_that_of_blocks_is_not() -> None:
    weights = attention()
    rollout = attention_rollout(weights)
    torch.testing.assert_close(attention_rollout(weights.flip(2)), rollout)
    assert (attention_rollout(weights.flip(0)) - rollout).abs().max() > 1e-3
    order = torch.tensor([3, 1, 4, 0, 2])
    permuted = attention_rollout(weights[..., order, :][..., order])
    torch.testing.assert_close(permuted, rollout[..., order, :][..., order])


def test_no_blocks() -> None:
    with pytest.raises(ValueError, match="at least one block"):
        attention_rollout([])


def test_step_with_and_without_skip() -> None:
    weights = torch.tensor([[0.2, 0.8], [0.5, 0.5]], dtype=torch.float64)
    assert rollout_step(weights).tolist() == [[0.6, 0.4], [0.25, 0.75]]
    assert torch.equal(rollout_step(weights, skip=False), weights)


def test_token_map_takes_one_query_or_the_mean_of_those_with_a_place() -> None:
    weights = torch.arange(12.0).reshape(3, 4)
    assert token_map(weights, 0, query_prefix=1, key_prefix=1).tolist() == [1, 2, 3]
    assert token_map(weights, None, query_prefix=1, key_prefix=2).tolist() == [8, 9]
    assert token_map(weights, None).tolist() == [4, 5, 6, 7]


def test_box_cover() -> None:
    boxes = torch.tensor(
        [[0.25, 0.5, 0.75, 1.0], [-1, 0, 0.125, 0.5], [0, 0, 1, 1], [0.3, 0.3, 0.3, 0.9]], dtype=torch.float64
    )
    cover = box_cover(boxes, (4, 2))
    assert cover.shape == (4, 4, 2)
    assert cover[0].tolist() == [[0, 0], [0, 1], [0, 1], [0, 0]]
    assert cover[1].tolist() == [[0.5, 0], [0, 0], [0, 0], [0, 0]]  # what lies above the image is cut off
    assert (cover[2] == 1).all()
    assert (cover[3] == 0).all()
    random = torch.rand(20, 2, 2, dtype=torch.float64).sort(1).values  # (n, low and high, axis)
    area = (random[:, 1] - random[:, 0]).prod(1)
    torch.testing.assert_close(box_cover(random.flatten(1), (7, 5)).mean((1, 2)), area)


def test_unit_mass() -> None:
    maps = torch.tensor([[[1.0, 3.0]], [[0.0, 0.0]], [[math.nan, 1.0]]])
    unit = unit_mass(maps)
    assert unit[0].tolist() == [[0.25, 0.75]]
    assert unit[1].tolist() == [[0.5, 0.5]]
    assert unit[2].isnan().all()  # not hidden
