"""Are heads that look near more like a convolutional network than heads that look far?"""

from seelike.studies.heads.study import HeadSimilarity

__all__ = ["HeadSimilarity"]
