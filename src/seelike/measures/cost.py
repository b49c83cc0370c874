"""What attention costs, by formula (paper.md 5.8).

Multiply-adds of one image; a floating point operation of other counters is half of one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AttentionCost:
    """Multiply-adds of attention over tokens, ``O(N_q C^2 + N_k C^2 + N_q N_k C)``.

    Attributes:
        query_projection: N_q C^2; the output projection costs as much.
        key_projection: N_k C^2; that of the values costs as much.
        scores: N_q N_k C, the product of queries and keys; that of weights and values costs as much.
    """

    query_projection: float
    key_projection: float
    scores: float

    @property
    def projections(self) -> float:
        """Queries, keys, values and output: 4 N C^2 where all tokens attend to all."""
        return 2 * self.query_projection + 2 * self.key_projection

    @property
    def attention(self) -> float:
        """Both products that grow with the square of the tokens: 2 N^2 C."""
        return 2 * self.scores

    @property
    def total(self) -> float:
        """All of multi-head self-attention: 4 N C^2 + 2 N^2 C."""
        return self.projections + self.attention


def attention_cost(queries: float, keys: float, width: float, windows: float = 1) -> AttentionCost:
    """Multiply-adds of attention with its projections (paper.md 5.8).

    Heads do not matter: they share the width between them.

    Args:
        queries: N_q, tokens that look; keys: N_k, tokens looked at (divided by R^2 by spatial reduction).
        width: C, channels of a token.
        windows: independent attentions of so many queries and keys.
    """
    return AttentionCost(windows * queries * width**2, windows * keys * width**2, windows * queries * keys * width)


def cost_at(fixed: float, linear: float, quadratic: float, ratio: float) -> float:
    """Multiply-adds when an image has `ratio` times as many tokens.

    Args:
        fixed: part that does not depend on the tokens (the classifier).
        linear: part that grows with them (convolutions, projections, MLPs).
        quadratic: part that grows with their square (attention of all tokens to all).
    """
    return fixed + linear * ratio + quadratic * ratio**2
