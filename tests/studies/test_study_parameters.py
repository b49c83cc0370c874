"""Studies from names and STUDY.PARAMETER=VALUE settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest

import seelike
from seelike.errors import SeelikeError
from seelike.studies import STUDIES, Study
from seelike.studies.parameters import make_studies, parse_parameter


@dataclass(frozen=True)
class Everything(Study):
    name: ClassVar[str] = "everything"
    question: ClassVar[str] = "?"

    whole: int = 0
    real: float = 0.0
    flag: bool = False
    text: str = ""
    kind: Literal["a", "b"] = "a"
    maybe: int | None = 3
    place: tuple[int, int] | None = None
    blocks: tuple[int, ...] = ()
    layers: str | Sequence[str] = "blocks"
    query: str | int | tuple[int, int] = "cls"

    def begin(self, anatomies: Any, design: Any) -> Any:
        raise NotImplementedError

    def figures(self, results: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("parameter", "text", "value"),
    [
        ("whole", "7", 7),
        ("whole", "-7", -7),
        ("real", "7", 7.0),
        ("real", "1e-3", 1e-3),
        ("flag", "true", True),
        ("flag", "False", False),
        ("text", "7", "7"),
        ("kind", "b", "b"),
        ("maybe", "none", None),
        ("maybe", "4", 4),
        ("place", "3,4", (3, 4)),
        ("place", "(3, 4)", (3, 4)),
        ("blocks", "1", (1,)),
        ("blocks", "1,2,3", (1, 2, 3)),
        ("layers", "all", "all"),
        ("layers", "a*,b*", ("a*", "b*")),
        ("query", "mean", "mean"),
        ("query", "5", 5),
        ("query", "5,6", (5, 6)),
    ],
)
def test_a_value_is_read_as_its_field_has_it(parameter: str, text: str, value: Any) -> None:
    read = parse_parameter(Everything, parameter, text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("everything.whole=1.5", "--set everything.whole=1.5: the value must be a whole number"),
        ("everything.whole=x", "must be a whole number"),
        ("everything.flag=1", "must be true or false"),
        ("everything.kind=c", "must be a or b"),
        ("everything.place=1,2,3", "must be a list with commas or none"),
        ("everything.plac=1,2", "has no parameter 'plac' (did you mean place"),
        ("everythin.whole=1", "'everythin' is not asked for"),
        ("whole=1", "is not STUDY.PARAMETER=VALUE"),
        ("everything.whole", "is not STUDY.PARAMETER=VALUE"),
    ],
)
def test_a_setting_that_does_not_fit_is_said(setting: str, said: str) -> None:
    with pytest.raises(SeelikeError, match=re.escape(said.split(";")[0])):
        make_studies(["everything"], [setting], {"everything": Everything})


def test_studies_are_made_once_each_with_their_settings() -> None:
    made = make_studies(["similarity", "field", "similarity"], ["field.location=3,4", "similarity.pool=mean"], STUDIES)
    assert made == [seelike.Similarity(pool="mean"), seelike.ReceptiveField(location=(3, 4))]


def test_an_unknown_study_is_said_with_close_ones() -> None:
    with pytest.raises(SeelikeError, match=r"no study named 'similarty' .did you mean similarity"):
        make_studies(["similarty"], [], STUDIES)
