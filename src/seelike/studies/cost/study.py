"""The cost study: multiply-adds counted from the graph, beside the formula and torch's own counter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import xarray as xr
from matplotlib.figure import Figure

from seelike.anatomy import Anatomy
from seelike.anatomy.multiply_adds import count_multiply_adds
from seelike.anatomy.torch_counter import disagreement, torch_multiply_adds
from seelike.studies.base import Design, Finding, Study, Tally, WeightsFold
from seelike.studies.cost.account import Account
from seelike.studies.cost.findings import find
from seelike.studies.cost.formula import attention_terms, formula_note
from seelike.studies.cost.results import cost_dataset


@dataclass(frozen=True)
class Cost(Study):
    """Multiply-adds, parameters and activations of every block, by what they are for (paper.md 5.8).

    Counted from the graph for one image, so exact and without error; the formula ``4 N C^2 + 2 N^2 C`` and torch's
    counter stand beside it, and a note says where they differ. Needs no images: the weights do not matter either.
    Time and memory are measured by ``benchmarks/cost.py``, which can build a model for images of other sizes.

    The results lie at ``/cost/<model>``.
    """

    name: ClassVar[str] = "cost"
    question: ClassVar[str] = "How many multiply-adds does each block take, and what for?"
    needs_images: ClassVar[bool] = False
    fewest_images: ClassVar[int] = 1

    def begin(self, anatomies: Mapping[str, Anatomy], design: Design) -> CostFold:
        del design
        accounts, notes = {}, []
        for model, anatomy in anatomies.items():
            counted = count_multiply_adds(anatomy)
            torch_says = torch_multiply_adds(anatomy)
            terms, torch_total = attention_terms(anatomy, counted), sum(torch_says.values())
            account = Account(counted, terms, torch_total, anatomy.input_size, anatomy.blocks)
            told = (*counted.notes, disagreement(counted, torch_says), formula_note(account))
            notes += [f"{model}: {note}" for note in told if note]
            accounts[model] = account
        return CostFold(accounts, notes)

    def figures(self, results: xr.DataTree) -> dict[str, Figure]:
        from seelike.studies.cost.figure import draw

        return draw(results)


@dataclass
class CostFold(WeightsFold):
    """Nothing is folded: all there is to know is in the graphs."""

    accounts: Mapping[str, Account]
    notes: list[str] = field(default_factory=list)

    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        del tally
        return {f"cost/{model}": cost_dataset(model, account) for model, account in self.accounts.items()}

    def findings(self, tally: Tally) -> list[Finding]:
        del tally
        return find(self.accounts)
