"""How far do the heads of each block look?"""

from seelike.studies.attention.study import AttentionDistance

__all__ = ["AttentionDistance"]
