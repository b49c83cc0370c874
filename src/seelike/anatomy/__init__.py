"""Read a model once as a graph of named sites, and run it handing on what passes them."""

from __future__ import annotations

from seelike.anatomy.anatomy import Anatomy
from seelike.anatomy.layout import LayoutHint
from seelike.anatomy.read import read_anatomy
from seelike.anatomy.sites import AttentionSite, LayerSite, Layout, Point, ResidualSite

__all__ = [
    "Anatomy",
    "AttentionSite",
    "LayerSite",
    "Layout",
    "LayoutHint",
    "Point",
    "ResidualSite",
    "read_anatomy",
]
