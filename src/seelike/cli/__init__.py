"""The command line: `main` runs it."""

from seelike.cli.app import app, main

__all__ = ["app", "main"]
