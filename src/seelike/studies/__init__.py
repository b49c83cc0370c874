"""Questions asked of models. A new one is a file here and a line in `STUDIES`."""

from seelike.studies.attention import AttentionDistance
from seelike.studies.attention_similarity import AttentionSimilarity
from seelike.studies.base import Design, Finding, Fold, Minibatch, NonFinite, Reading, Samples, Study, Tally
from seelike.studies.cost import Cost
from seelike.studies.cut import SkipCut
from seelike.studies.embeddings import Embeddings
from seelike.studies.field import ReceptiveField
from seelike.studies.heads import HeadSimilarity
from seelike.studies.localization import Localization
from seelike.studies.maps import AttentionMaps
from seelike.studies.position import Position
from seelike.studies.probe import LinearProbe
from seelike.studies.reference import ReferenceSimilarity
from seelike.studies.separation import Separation
from seelike.studies.similarity import Similarity
from seelike.studies.skip import SkipRatio

STUDIES: dict[str, type[Study]] = {
    study.name: study
    for study in (
        Similarity,
        AttentionDistance,
        HeadSimilarity,
        AttentionSimilarity,
        AttentionMaps,
        Embeddings,
        Cost,
        ReceptiveField,
        SkipRatio,
        SkipCut,
        ReferenceSimilarity,
        Localization,
        LinearProbe,
        Separation,
        Position,
    )
}

__all__ = [
    "STUDIES",
    "AttentionDistance",
    "AttentionMaps",
    "AttentionSimilarity",
    "Cost",
    "Design",
    "Embeddings",
    "Finding",
    "Fold",
    "HeadSimilarity",
    "LinearProbe",
    "Localization",
    "Minibatch",
    "NonFinite",
    "Position",
    "Reading",
    "ReceptiveField",
    "ReferenceSimilarity",
    "Samples",
    "Separation",
    "Similarity",
    "SkipCut",
    "SkipRatio",
    "Study",
    "Tally",
]
