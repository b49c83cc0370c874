"""The cut study; see `study`."""

from seelike.studies.cut.study import SkipCut

__all__ = ["SkipCut"]
