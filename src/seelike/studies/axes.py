"""Axes of layers, the same in every figure: layer index from input to output, blocks marked at the far side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

from matplotlib.axes import Axes

NAMES_UP_TO = 24
"""Axes of so few layers bear the layers' names; longer ones their index."""
MOST_BLOCK_LABELS = 12


def label_layers(axes: Axes, which: Literal["x", "y"], names: Sequence[str], blocks: Sequence[str], model: str) -> None:
    """Label one axis of a map whose cell i is centred on i.

    Args:
        axes: the plot; which: the axis.
        names: name of every layer; blocks: the block of every layer, "" outside all blocks.
        model: what the axis is titled with.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_label_text(f"layers of {model}")
    limit = axes.set_xlim if which == "x" else axes.set_ylim
    limit(-0.5, len(names) - 0.5)
    if len(names) <= NAMES_UP_TO:
        axis.set_ticks(range(len(names)), labels=list(names), fontsize=6)
        if which == "x":
            for label in axes.get_xticklabels():
                label.set(rotation=45, ha="right", rotation_mode="anchor")
    spans = block_spans(blocks)
    if spans:
        _mark_blocks(axes, which, spans)


def block_spans(blocks: Sequence[str]) -> list[tuple[str, int, int]]:
    """Runs of layers of one block: (block, first layer, last layer), in order; layers outside blocks left out."""
    spans = []
    start = 0
    for block, run in groupby(blocks):
        length = len(list(run))
        if block:
            spans.append((block, start, start + length - 1))
        start += length
    return spans


def _mark_blocks(axes: Axes, which: Literal["x", "y"], spans: Sequence[tuple[str, int, int]]) -> None:
    """Ticks between blocks on the far side, and names at the middles of as many as can be read."""
    far = axes.secondary_xaxis("top") if which == "x" else axes.secondary_yaxis("right")
    axis = far.xaxis if which == "x" else far.yaxis
    edges = sorted({s - 0.5 for _, s, _ in spans} | {e + 0.5 for _, _, e in spans})
    axis.set_ticks(edges, labels=[], minor=True)
    every = -(-len(spans) // MOST_BLOCK_LABELS)
    shown = spans[::every]
    short = short_names([name for name, _, _ in spans])
    axis.set_ticks([(s + e) / 2 for _, s, e in shown], labels=[short[name] for name, _, _ in shown], fontsize=6)
    far.tick_params(which="major", length=0, pad=4)
    far.tick_params(which="minor", length=4, width=0.6)
    if which == "x":
        far.tick_params(axis="x", labelrotation=90)


def short_names(blocks: Sequence[str]) -> dict[str, str]:
    """The shortest ends of module paths that tell blocks apart.

    `encoder.layers.3` becomes `layers.3`, a bare number never being enough; `stages.0.blocks.1` stays whole beside
    `stages.1.blocks.1`.
    """
    names = list(dict.fromkeys(blocks))
    for length in range(1, 1 + max((name.count(".") + 1 for name in names), default=1)):
        ends = [".".join(name.split(".")[-length:]) for name in names]
        if len(set(ends)) == len(names) and not any(end.split(".")[0].isdigit() for end in ends):
            return dict(zip(names, ends, strict=True))
    return {name: name for name in names}
