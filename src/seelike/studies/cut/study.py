"""The cut study: what becomes of a network whose skips are missing in one block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import xarray as xr
from matplotlib.figure import Figure

from seelike.anatomy import Anatomy
from seelike.studies.base import Design, Study
from seelike.studies.cut.fold import CutFold
from seelike.studies.cut.parts import find_cuts, part_at
from seelike.studies.similarity.fold import SimilarityFold


@dataclass(frozen=True)
class SkipCut(Study):
    """Similarity across a block against similarity within the parts, and accuracy (Figure 8; paper.md 3).

    Give a model with all its skips and the same architecture without those of one block (``zoo:vit-cls-cut6``, or
    `seelike.cut_model`). For every block the layers of each model fall into those before it and those after it; the
    block's own layers are in neither. ``within`` is the mean CKA of pairs in the same part, ``across`` that of pairs
    of different parts. Accuracy is counted where the images have labels and the model's output has a place for each.

    The results lie at ``/cut/<model>``.
    """

    name: ClassVar[str] = "cut"
    question: ClassVar[str] = (
        "Does a network fall into two parts where the skips of a block are missing? (CKA across it)"
    )

    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> CutFold:
        cuts = find_cuts(anatomies)
        chosen = {model: anatomy.select("sublayers") for model, anatomy in anatomies.items()}
        blocks = anatomies[cuts.whole].blocks
        parts = {model: [part_at(sites, block) for block in blocks] for model, sites in chosen.items()}
        notes = list(cuts.notes)
        alone = [(model, model) for model in chosen]
        maps = SimilarityFold(chosen, "flatten", design, notes, prefix="cut", wanted=alone)
        return CutFold(maps, cuts, parts, blocks, anatomies, notes)

    def figures(self, results: xr.DataTree) -> dict[str, Figure]:
        from seelike.studies.cut.figure import draw

        return draw(results)
