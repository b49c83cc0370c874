"""Questions asked of models. A new one is a file here and a line in `STUDIES`."""

from seelike.studies.base import Design, Finding, Fold, Minibatch, NonFinite, Reading, Study, Tally
from seelike.studies.similarity import Similarity

STUDIES: dict[str, type[Study]] = {study.name: study for study in (Similarity,)}

__all__ = ["STUDIES", "Design", "Finding", "Fold", "Minibatch", "NonFinite", "Reading", "Similarity", "Study", "Tally"]
