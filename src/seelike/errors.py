"""What goes wrong because of the input, said in one sentence that names the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SeelikeError(Exception):
    """Bad input: a file, model, site or option that cannot be used as given.

    The message is one clear sentence or two: what was met (file, model, site, shape) and what to do. The
    command line prints it without a traceback and exits with status 2.
    """


def close_matches(name: str, known: Iterable[str], most: int = 5) -> str:
    """Word the names nearest to `name` for an error message: `` (did you mean a, b?)`` or an empty string."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=most, cutoff=0.5)
    near += [k for k in known if name and name.lower() in k.lower() and k not in near]
    return f" (did you mean {', '.join(near[:most])}?)" if near else ""
