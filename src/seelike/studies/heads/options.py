"""What the head similarity study can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from seelike.errors import SeelikeError
from seelike.studies.heads.outputs import Of
from seelike.studies.heads.subsets import Rule


@dataclass(frozen=True)
class HeadOptions:
    """Parameters of `HeadSimilarity`, which says what they mean. Raises `SeelikeError` for words that mean nothing."""

    block: int = 0
    subset: Rule = "sliding"
    width: int | None = None
    of: Of = "heads"
    layers: str | Sequence[str] | None = None
    renormalize: bool = False

    def __post_init__(self) -> None:
        for name, value, words in (("subset", self.subset, get_args(Rule)), ("of", self.of, get_args(Of))):
            if value not in words:
                raise SeelikeError(f"heads.{name} is {', '.join(words[:-1])} or {words[-1]}, not {value!r}")
        if self.layers is not None and not isinstance(self.layers, str):
            object.__setattr__(self, "layers", tuple(self.layers))
