"""Which model lacks which skips, and which of its layers lie before and after them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.anatomy import Anatomy, LayerSite
from seelike.errors import SeelikeError


@dataclass(frozen=True)
class Cuts:
    """The model with all skips, and for every other model the blocks in which it has fewer.

    Attributes:
        whole: label of the model with the most residual sums.
        missing: label of every other model -> paths of its cut blocks.
        notes: models that lack no skip.
    """

    whole: str
    missing: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


def find_cuts(anatomies: Mapping[str, Anatomy]) -> Cuts:
    """Find the whole model and what the others lack of its residual sums, block by block.

    Raises:
        SeelikeError: no model has residual sums, or none lacks what another has, or one is of another architecture.
    """
    sums = {model: Counter(site.block for site in anatomy.residuals) for model, anatomy in anatomies.items()}
    whole = max(sums, key=lambda model: sums[model].total())
    if not anatomies[whole].blocks:
        raise SeelikeError(
            f"the study cut found no residual sums in {', '.join(anatomies)}; give a model with skip connections"
        )
    missing, notes = {}, []
    for model, found in sums.items():
        if model == whole:
            continue
        foreign = [block for block in found if found[block] > sums[whole][block]]
        if foreign:
            raise SeelikeError(
                f"the study cut compares a model with the same one without some skips, but block {foreign[0]} of "
                f"{model} is not in {whole}; leave {model} out"
            )
        missing[model] = tuple(block for block in anatomies[whole].blocks if found[block] < sums[whole][block])
        if not missing[model]:
            notes.append(f"{model} has as many skips as {whole}, so nothing is cut in it")
    if not any(missing.values()):
        raise SeelikeError(
            f"the study cut found the same skips in all of {', '.join(anatomies)}; give a model and the same one "
            "without the skips of a block, as in: seelike compare zoo:vit-cls zoo:vit-cls-cut6 --studies cut"
        )
    return Cuts(whole, missing, tuple(notes))


@dataclass(frozen=True)
class Part:
    """Layers on the two sides of a block, as masks over pairs of layers (layers, layers); the diagonal is in none."""

    within: Tensor
    across: Tensor

    def means(self, maps: Tensor) -> Tensor:
        """Mean CKA within the parts and across the block, (..., 2), from maps (..., layers, layers).

        Layers that do not vary (NaN) are left out; NaN where one side has no layers.
        """
        return torch.stack([maps[..., mask].nanmean(-1) for mask in (self.within, self.across)], -1)


def part_at(sites: Sequence[LayerSite], block: str) -> Part:
    """The layers before and after a block, found by the names of its modules."""
    inside = [i for i, site in enumerate(sites) if _belongs(site, block)]
    place = torch.arange(len(sites))
    first, last = (inside[0], inside[-1]) if inside else (len(sites), -1)
    before, after = place < first, place > last
    pairs = ~torch.eye(len(sites), dtype=torch.bool)
    same = (before[:, None] & before[None, :]) | (after[:, None] & after[None, :])
    other = (before[:, None] & after[None, :]) | (after[:, None] & before[None, :])
    return Part(same & pairs, other)


def _belongs(site: LayerSite, block: str) -> bool:
    # A block without skips is no block to the anatomy: its modules still bear its name.
    return site.block == block or any(
        name == block or name.startswith(f"{block}.") for name in (site.name, *site.aliases)
    )
