"""Do two models, or two layers of one, represent the same images alike?"""

from seelike.studies.similarity.study import Similarity

__all__ = ["Similarity"]
