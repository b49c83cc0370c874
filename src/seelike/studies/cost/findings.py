"""What the counts show (paper.md 5.8)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import sqrt

from seelike.anatomy.multiply_adds import KINDS
from seelike.studies.base import Finding
from seelike.studies.cost.account import Account

WORDS = {
    "projections": "projections of attention",
    "attention": "products of attention",
    "mlp": "MLPs",
    "convolution": "convolutions",
    "other": "other linear layers",
}


def find(accounts: Mapping[str, Account]) -> list[Finding]:
    """Findings of every model, then of every pair. Counts are exact, so their errors are 0."""
    found: list[Finding] = []
    for model, account in accounts.items():
        found.append(_total(model, account))
        if account.terms:
            found += [_share(model, account), _overtaking(model, account)]
    return found + [_ratio(a, b, accounts) for a, b in combinations(accounts, 2)]


def _total(model: str, account: Account) -> Finding:
    total = account.total()
    _, height, width = account.input_size
    parts = [
        f"{WORDS[kind]} {100 * account.total(kind) / total:.1f} %" for kind in KINDS if total and account.total(kind)
    ]
    agreement = (
        "torch's counter says the same"
        if account.torch_total == total
        else f"torch's counter says {amount(account.torch_total)}"
    )
    return Finding(
        "cost",
        (model,),
        f"{model} takes {amount(total)} multiply-adds for one image of {height} x {width} pixels "
        f"({', '.join(parts)}) with {amount(account.parameters)} parameters; {agreement}.",
        "multiply-adds in 10^9",
        total / 1e9,
        0.0,
    )


def _share(model: str, account: Account) -> Finding:
    total = account.total()
    share = account.quadratic / total
    windowed = " (windows of fixed size are not among it)" if any(t.windows > 1 for t in account.terms) else ""
    return Finding(
        "cost",
        (model,),
        f"In {model}, {100 * share:.1f} % of the multiply-adds grow with the square of the number of tokens{windowed}: "
        f"queries times keys and weights times values.",
        "share of the quadratic part",
        share,
        0.0,
    )


def _overtaking(model: str, account: Account) -> Finding:
    """Where the product of queries and keys costs more than the projection of the queries: N_k > C."""
    terms = account.terms
    over = [term for term in terms if term.keys > term.width]
    top = max(terms, key=lambda term: term.keys / term.width)
    ratio = top.keys / top.width
    statement = (
        f"In {model}, the product of queries and keys costs more than the projection of the queries (more keys than "
        f"channels) in {len(over)} of {len(terms)} attentions, at most {ratio:.2f} times as much "
        f"({top.name}: {top.keys:,} keys, {top.width:,} channels)"
    )
    if top.windows == 1 and top.keys > 1:
        side = sqrt(account.input_size[1] * account.input_size[2] / ratio)
        statement += f"; the two are equal at {top.width:,} keys, in images of about {side:.0f} pixels a side"
    return Finding("cost", (model,), statement + ".", "largest keys / channels", ratio, 0.0)


def _ratio(a: str, b: str, accounts: Mapping[str, Account]) -> Finding:
    ratio = accounts[a].total() / accounts[b].total()
    return Finding(
        "cost",
        (a, b),
        f"One image takes {ratio:.2f} times as many multiply-adds in {a} as in {b}, with "
        f"{accounts[a].parameters / max(accounts[b].parameters, 1):.2f} times as many parameters.",
        "multiply-adds, ratio",
        ratio,
        0.0,
    )


def amount(number: float) -> str:
    """A large number in words of four digits: 17.56 G, 524.4 M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.4g} {letter}"
    return f"{number:.4g}"
