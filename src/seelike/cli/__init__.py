"""The command line: `main` runs it."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; bad input ends in one sentence and exit status 2, Ctrl-C in 130."""
    try:
        from seelike.cli.app import run  # here, because torch takes seconds, in which people press Ctrl-C, too

        run()
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)
