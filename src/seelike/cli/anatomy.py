"""`seelike anatomy`."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import seelike
from seelike.anatomy.multiply_adds import count_multiply_adds
from seelike.cli.options import DeviceOption, LayersOption, ModelArgument, flat
from seelike.comparison import choose_device


def anatomy(
    model: ModelArgument,
    layers: LayersOption = ["all"],  # noqa: B006
    device: DeviceOption = "auto",
) -> None:
    """Print the sites of a model: layers, residual sums and attentions, in execution order."""
    loaded = seelike.load_model(model).to(choose_device(device))
    read = loaded.anatomy
    words = flat(layers)
    table = Table("#", "name", "kind", "block", "shape", "aliases", box=None, pad_edge=False)
    for site in read.select(words[0] if len(words) == 1 else words):
        aliases = ", ".join(site.aliases)
        table.add_row(
            str(site.index), escape(site.name), site.kind, site.block or "", _shape(site.shape), escape(aliases)
        )
    wide = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    wide.print(table)
    if read.residuals:
        table = Table("residual sum", "kind", "branch", "block", "shape", box=None, pad_edge=False)
        for residual in read.residuals:
            table.add_row(
                escape(residual.name), residual.kind, residual.branch_kind, residual.block, _shape(residual.shape)
            )
        wide.print("", table)
    if read.attentions:
        table = Table("attention", "heads", "queries x keys", "probabilities", "block", box=None, pad_edge=False)
        for attention in read.attentions:
            tokens = f"{attention.query_tokens} x {attention.key_tokens}"
            seen = "recomputed (fused)" if attention.fused else "in the graph"
            table.add_row(escape(attention.name), str(attention.heads), tokens, seen, attention.block or "")
        wide.print("", table)
    wide.print(
        f"\n{len(read.layers)} layers, {len(read.residuals)} residual sums, {len(read.attentions)} attentions, "
        f"{len(read.blocks)} blocks, {loaded.parameters / 1e6:.1f} M parameters, "
        f"{count_multiply_adds(read).total / 1e9:.3g} G multiply-adds per image"
    )
    for note in read.notes:
        wide.print(f"note: {escape(note)}")


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
