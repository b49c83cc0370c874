"""Do the blocks of a model, and the heads of a block, attend alike?"""

from seelike.studies.attention_similarity.study import AttentionSimilarity

__all__ = ["AttentionSimilarity"]
