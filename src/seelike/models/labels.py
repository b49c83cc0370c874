"""Names of models made fit for paths and told apart."""

from __future__ import annotations

import re
from collections.abc import Iterable


def unique_labels(names: Iterable[str]) -> list[str]:
    """Make `names` safe in a path (letters, digits, ``.``, ``_``, ``-``) and unique: a second `a` is `a-2`.

    The first of two equal names keeps its own, and a name that is taken already (``a-2`` given by the user)
    is passed over. Case does not tell names apart, because some file systems do not see it either.
    """
    wanted = [re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model" for name in names]
    taken: set[str] = set()
    reserved = {label.lower() for label in wanted}
    labels = []
    for label in wanted:
        unique, number = label, 1
        while unique.lower() in taken or (number > 1 and unique.lower() in reserved):
            number += 1
            unique = f"{label}-{number}"
        taken.add(unique.lower())
        labels.append(unique)
    return labels
