"""The reference study; see `study`."""

from seelike.studies.reference.study import ReferenceSimilarity

__all__ = ["ReferenceSimilarity"]
