"""The attention distance study: how far the heads of each block look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import xarray as xr
from matplotlib.figure import Figure

from seelike.anatomy import Anatomy
from seelike.anatomy.positions import PlacedAttention, place_attentions
from seelike.errors import SeelikeError
from seelike.studies.attention.convolutions import convolutional_fields
from seelike.studies.attention.fold import AttentionFold
from seelike.studies.base import Design, Study

EXAMPLE = "timm:vit_small_patch16_224"


@dataclass(frozen=True)
class AttentionDistance(Study):
    """Mean attention distance of every head, in pixels (Figures 3, 4, C.5 and C.6 of the paper; paper.md 2.2).

    Entropy of attention and its share on prefix tokens (class token, registers) are measured beside it. Models
    without attention are left out, with a note; of those that are made of convolutions, the theoretical receptive
    field is put beside the distances.

    Args:
        renormalize: divide what a query gives to tokens with a place by their sum; by default attention to prefix
            tokens counts as distance 0, as the paper's authors do.

    The results lie at ``/attention/<model>``.
    """

    name: ClassVar[str] = "attention"
    question: ClassVar[str] = "How far do the heads of each block look? (mean attention distance)"

    renormalize: bool = False

    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> AttentionFold:
        placed, notes = placed_attentions(anatomies, self.name)
        fields = convolutional_fields({m: anatomy for m, anatomy in anatomies.items() if not anatomy.attentions})
        return AttentionFold(anatomies, placed, fields, self.renormalize, design, notes)

    def figures(self, results: xr.DataTree) -> dict[str, Figure]:
        from seelike.studies.attention.figure import draw

        return draw(results)


def placed_attentions(
    anatomies: Mapping[str, Anatomy], study: str
) -> tuple[dict[str, tuple[PlacedAttention, ...]], list[str]]:
    """The attention sites of every model that has any, and notes on what is left out.

    Raises `SeelikeError` when no model has attention whose place in the image is known.
    """
    found: dict[str, tuple[PlacedAttention, ...]] = {}
    notes: list[str] = []
    for model, anatomy in anatomies.items():
        placed, reasons = place_attentions(anatomy)
        if placed:
            found[model] = placed
        if any(each.site.softmax is not None for each in placed) and study != "attention-similarity":
            notes.append(
                f"{model} mixes and normalises its heads after the softmax, which leaves signed weights; the {study} "
                "study looks at what the softmax puts out"
            )
        notes += [f"{model}: {reason}" for reason in reasons]
        if not anatomy.attentions:
            notes.append(f"{model} has no attention sites; the {study} study leaves it out")
    if not found:
        raise SeelikeError(_none(anatomies, notes))
    return found, notes


def _none(anatomies: Mapping[str, Anatomy], notes: list[str]) -> str:
    without = [model for model, anatomy in anatomies.items() if not anatomy.attentions]
    if len(without) < len(anatomies):
        return f"no attention can be placed in the image: {'; '.join(notes)}; try a model such as {EXAMPLE}"
    verb = "has" if len(without) == 1 else "have"
    return f"{' and '.join(without)} {verb} no attention sites; give a model with attention, for example {EXAMPLE}"
