"""Questions asked of models. A new one is a file here and a line in `STUDIES`."""

from seelike.studies.attention import AttentionDistance
from seelike.studies.attention_similarity import AttentionSimilarity
from seelike.studies.base import Design, Finding, Fold, Minibatch, NonFinite, Reading, Samples, Study, Tally
from seelike.studies.field import ReceptiveField
from seelike.studies.similarity import Similarity
from seelike.studies.skip import SkipRatio

STUDIES: dict[str, type[Study]] = {
    study.name: study for study in (Similarity, AttentionDistance, AttentionSimilarity, ReceptiveField, SkipRatio)
}

__all__ = [
    "STUDIES",
    "AttentionDistance",
    "AttentionSimilarity",
    "Design",
    "Finding",
    "Fold",
    "Minibatch",
    "NonFinite",
    "Reading",
    "ReceptiveField",
    "Samples",
    "Similarity",
    "SkipRatio",
    "Study",
    "Tally",
]
