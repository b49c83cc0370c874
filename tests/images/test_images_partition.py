from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seelike.errors import SeelikeError
from seelike.images import partition


def test_known_answer() -> None:
    # Written down once: a resumed or repeated run must find these numbers again on any machine.
    assert partition(10, 4, seed=0, repeat=0) == [(3, 2, 1, 8), (6, 0, 7, 4, 5, 9)]
    assert partition(10, 4, seed=0, repeat=1) == [(7, 4, 5, 1), (9, 8, 6, 2, 0, 3)]
    assert partition(10, 4, seed=1, repeat=0) == [(9, 2, 4, 7), (5, 0, 8, 6, 3, 1)]


def test_same_in_another_process_with_other_global_seeds() -> None:
    code = (
        "from numpy import random; random.seed(5)\nfrom seelike.images import partition as p; print(p(50, 8, seed=3))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(partition(50, 8, seed=3))


@given(
    count=st.integers(4, 400),
    minibatch=st.integers(4, 70),
    seed=st.integers(0, 2**40),
    repeat=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_every_image_exactly_once(count: int, minibatch: int, seed: int, repeat: int) -> None:
    parts = partition(count, minibatch, seed=seed, repeat=repeat)
    assert sorted(index for part in parts for index in part) == list(range(count))
    sizes = [len(part) for part in parts]
    assert sizes[:-1] == [minibatch] * (len(sizes) - 1)
    if len(sizes) > 1:
        half = max(4, minibatch / 2)
        assert half <= sizes[-1] < minibatch + half
    else:
        assert sizes == [count]


@given(count=st.integers(4, 300), limit=st.integers(4, 400), seed=st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_limit_draws_a_prefix_of_the_same_order(count: int, limit: int, seed: int) -> None:
    drawn = [index for part in partition(count, 8, limit=limit, seed=seed) for index in part]
    everything = [index for part in partition(count, 8, seed=seed) for index in part]
    assert drawn == everything[: min(count, limit)]


@pytest.mark.parametrize(
    ("count", "minibatch", "sizes"),
    [
        (64, 32, [32, 32]),
        (79, 32, [32, 47]),  # 15 < 16: merged
        (80, 32, [32, 32, 16]),  # half a minibatch stands alone
        (11, 4, [4, 7]),  # 3 < 4: merged, for HSIC needs 4
        (12, 4, [4, 4, 4]),
        (15, 6, [6, 9]),
        (16, 6, [6, 6, 4]),
        (5, 32, [5]),
        (35, 32, [35]),
    ],
)
def test_sizes(count: int, minibatch: int, sizes: list[int]) -> None:
    assert [len(part) for part in partition(count, minibatch)] == sizes


def test_repeats_are_fresh_and_even() -> None:
    # 400 draws of 10 out of 40: each image is drawn 100 times on average, sd sqrt(400 * 1/4 * 3/4) = 8.7.
    drawn = np.zeros(40)
    for repeat in range(400):
        for part in partition(40, 10, limit=10, seed=7, repeat=repeat):
            drawn[list(part)] += 1
    assert drawn.sum() == 4000
    assert np.abs(drawn - 100).max() < 4 * 8.7
    assert drawn.std() > 2  # even, but not a fixed rotation


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"count": 100, "minibatch": 3}, "minibatch of 3"),
        ({"count": 3, "minibatch": 8}, "3 images are too few"),
        ({"count": 100, "minibatch": 8, "limit": 2}, "2 images are too few.*there are 100, the limit is 2"),
        ({"count": 100, "minibatch": 8, "seed": -1}, "-1 and 0"),
    ],
)
def test_too_small(arguments: dict[str, int], said: str) -> None:
    with pytest.raises(SeelikeError, match=said):
        partition(**arguments)
