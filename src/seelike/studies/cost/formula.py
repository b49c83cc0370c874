"""The formula of attention's cost, at the attentions of a model."""

from __future__ import annotations

import math

from seelike.anatomy import Anatomy, AttentionSite, ResidualSite
from seelike.anatomy.multiply_adds import MultiplyAdds
from seelike.measures.cost import attention_cost
from seelike.studies.cost.account import Account, AttentionTerm


def attention_terms(anatomy: Anatomy, counted: MultiplyAdds) -> tuple[AttentionTerm, ...]:
    """Tokens, keys and width of every attention, with what the formula makes of them."""
    places = {each.point: each.block for each in counted.operations}
    return tuple(_term(anatomy, site, places[site.output]) for site in anatomy.attentions if site.output in places)


def _term(anatomy: Anatomy, site: AttentionSite, place: str) -> AttentionTerm:
    # Rows of one image in the batch dimension are windows, or heads where a model folds them away (3 dimensions).
    folded = 1
    if site.heads == 1 and site.batch_factor > 1:
        stream = next((r for r in anatomy.residuals if r.block == site.block and r.branch_kind == "attention"), None)
        tokens = _tokens(stream) if stream is not None else site.query_tokens
        folded = max(1, site.batch_factor * site.query_tokens // tokens)
    windows, width = max(1, site.batch_factor // folded), site.heads * site.head_dim * folded
    cost = attention_cost(site.query_tokens, site.key_tokens, width, windows)
    return AttentionTerm(site.name, place, site.query_tokens, site.key_tokens, width, windows, cost)


def _tokens(stream: ResidualSite) -> int:
    shape = stream.shape
    channels = shape[0] if stream.layout.kind == "map" and not stream.layout.channels_last else shape[-1]
    return math.prod(shape) // channels


def formula_note(account: Account) -> str:
    """One sentence on the attentions that the formula does not describe; empty where graph and formula agree."""
    blocks = dict.fromkeys(term.block for term in account.terms)
    differing = []
    for block in blocks:
        costs = [term.cost for term in account.terms if term.block == block]
        graph = (account.of_block(block, "projections"), account.of_block(block, "attention"))
        formula = (sum(c.projections for c in costs), sum(c.attention for c in costs))
        if graph != formula:
            differing.append((block, graph, formula))
    if not differing:
        return ""
    block, graph, formula = differing[0]
    return (
        f"the formula 2 (N_q + N_k) C^2 + 2 N_q N_k C is not what the graph does in {len(differing)} of {len(blocks)} "
        f"blocks with attention; in {block} the graph has {graph[0]:,} multiply-adds of projections and {graph[1]:,} "
        f"of attention, the formula {formula[0]:,.0f} and {formula[1]:,.0f}"
    )
