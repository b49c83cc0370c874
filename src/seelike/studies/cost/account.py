"""All that is known of what a model costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seelike.anatomy.multiply_adds import AFTER, CostKind, MultiplyAdds
from seelike.measures.cost import AttentionCost


@dataclass(frozen=True)
class AttentionTerm:
    """What the formula says of one attention.

    Attributes:
        name: of the site; block: that it stands in, as in `MultiplyAdds.places`.
        queries: N_q; keys: N_k; width: C; windows: attentions of so many tokens side by side in one image.
        cost: in multiply-adds.
    """

    name: str
    block: str
    queries: int
    keys: int
    width: int
    windows: int
    cost: AttentionCost


@dataclass(frozen=True)
class Account:
    """The count of one model beside the formula and torch's own count.

    Attributes:
        counted: from the graph; terms: of the formula, one per attention.
        torch_total: multiply-adds that torch's counter finds.
        input_size: channels, height and width of the image; blocks: of the model.
    """

    counted: MultiplyAdds
    terms: tuple[AttentionTerm, ...]
    torch_total: int
    input_size: tuple[int, int, int]
    blocks: Sequence[str]

    def total(self, kind: CostKind | None = None) -> int:
        """Multiply-adds of one image, all or of one kind."""
        return sum(each.multiply_adds for each in self.counted.operations if kind in (None, each.kind))

    def of_block(self, block: str, kind: CostKind) -> int:
        """Multiply-adds of one kind in a block."""
        return sum(e.multiply_adds for e in self.counted.operations if e.block == block and e.kind == kind)

    @property
    def quadratic(self) -> int:
        """Multiply-adds that grow with the square of the tokens: those of attention of all tokens to all."""
        blocks = {term.block for term in self.terms if term.windows == 1}
        return sum(self.of_block(block, "attention") for block in blocks)

    @property
    def fixed(self) -> int:
        """Multiply-adds that do not depend on the image's size: linear layers behind the blocks (the classifier)."""
        return self.of_block(AFTER, "other")

    @property
    def parameters(self) -> int:
        """Parameters that the forward pass uses."""
        return sum(self.counted.parameters.values())
