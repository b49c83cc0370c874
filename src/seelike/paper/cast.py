"""From a role to models that can be loaded, or to what must be trained first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from seelike.errors import SeelikeError
from seelike.models import zoo
from seelike.paper.words import PaperRun, Scale

TRAINED = Path("runs/train")
"""Where `seelike train` puts runs without --out."""


@dataclass(frozen=True)
class Missing:
    """A model that somebody must train first: its recipe, and what the recipe's first line says to expect."""

    recipe: str
    expects: str

    def __str__(self) -> str:
        return f"seelike train {self.recipe}  # {self.expects}"


@dataclass(frozen=True)
class Players:
    """Specs of the models of a run, in order, and what is missing of them.

    Attributes:
        specs: of all that are there, role after role; roles: role -> names of its models in the cast.
        absent: roles that the scale does not have.
        missing: models that are not trained; skipped: those of optional roles, which the run does without.
    """

    specs: tuple[str, ...]
    roles: dict[str, tuple[str, ...]]
    absent: tuple[str, ...]
    missing: tuple[Missing, ...]
    skipped: tuple[Missing, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the run can be made."""
        return not (self.absent or self.missing)


def find_players(run: PaperRun, scale: Scale, *, random: bool = False, trained: Path = TRAINED) -> Players:
    """Find the models of a run: members of the zoo, finished runs below `trained`, or specs as they are.

    `random` takes random weights instead of published ones.
    """
    found = {
        role: [_spec(name, random, trained) for name in scale.cast.get(role, ())]
        for role in (*run.models, *run.optional)
    }
    lacking = {role: [each for each in specs if isinstance(each, Missing)] for role, specs in found.items()}
    taken = [*run.models, *(role for role in run.optional if found[role] and not lacking[role])]
    return Players(
        specs=tuple(each for role in taken for each in found[role] if isinstance(each, str)),
        roles={role: scale.cast.get(role, ()) for role in taken},
        absent=tuple(role for role in run.models if not found[role]),
        missing=tuple(each for role in run.models for each in lacking[role]),
        skipped=tuple(each for role in run.optional for each in lacking[role]),
    )


def _spec(name: str, random: bool, trained: Path) -> str | Missing:
    if ":" in name:
        return f"{re.sub(r'[.][^.]*$', '', name)}@random" if random else name
    if name in zoo.members():
        return f"zoo:{name}"
    if (trained / name / "summary.json").exists():
        return f"run:{trained / name}"
    return Missing(name, _expects(name))


def _expects(recipe: str) -> str:
    """What the recipe's first line promises, in the words of `seelike train --list`."""
    from seelike.train.recipes import list_recipes

    try:
        known = {shipped.name: shipped.expects for shipped in list_recipes()}
    except SeelikeError:
        return ""
    return known.get(recipe, "")
