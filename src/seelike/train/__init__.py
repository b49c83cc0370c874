"""Training small models: recipes, and the loop that fits them."""

from __future__ import annotations

from seelike.train.evaluate import Accuracy, accuracy_on, evaluate
from seelike.train.progress import Row
from seelike.train.recipe import Recipe
from seelike.train.recipes import list_recipes, load_recipe
from seelike.train.run import train

__all__ = ["Accuracy", "Recipe", "Row", "accuracy_on", "evaluate", "list_recipes", "load_recipe", "train"]
