"""The whole paper from one command: figures as entries of a registry, claims, one page."""

from seelike.paper.entries import ALSO, FIGURES
from seelike.paper.make import Paper, choose_figures, make_paper, missing_recipes
from seelike.paper.scales import SCALES

__all__ = ["ALSO", "FIGURES", "SCALES", "Paper", "choose_figures", "make_paper", "missing_recipes"]
