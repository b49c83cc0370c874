"""Labels are safe in paths, unique, and as close to the names as that allows."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from seelike.models import unique_labels


def test_clean_names_stay() -> None:
    assert unique_labels(["vit_tiny", "resnet50.a1_in1k"]) == ["vit_tiny", "resnet50.a1_in1k"]


def test_equal_names_get_numbers_in_order() -> None:
    assert unique_labels(["a", "a", "b", "a"]) == ["a", "a-2", "b", "a-3"]


def test_a_number_that_a_name_bears_already_is_passed_over() -> None:
    assert unique_labels(["a", "a", "a-2"]) == ["a", "a-3", "a-2"]


def test_other_signs_become_one_dash() -> None:
    assert unique_labels(["my model / 2@random:7", "..", "", "é"]) == [
        "my-model-2-random-7",
        "model",
        "model-2",
        "model-3",
    ]


def test_case_does_not_tell_names_apart() -> None:
    assert unique_labels(["ViT", "vit"]) == ["ViT", "vit-2"]


@given(st.lists(st.sampled_from(["a", "A", "a-2", "a-2-2", "", "/", "a b", "a-b", "é"]) | st.text(max_size=4)))
def test_always_unique_and_safe(names: list[str]) -> None:
    labels = unique_labels(names)
    assert len({label.lower() for label in labels}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", label) and label not in (".", "..") for label in labels)
