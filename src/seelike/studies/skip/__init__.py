"""How much of a representation arrives by the skip, and how much does the branch add?"""

from seelike.studies.skip.study import SkipRatio

__all__ = ["SkipRatio"]
