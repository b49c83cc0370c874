"""Where in the picture do the heads look, and what does rollout make of all blocks?"""

from seelike.studies.maps.study import AttentionMaps

__all__ = ["AttentionMaps"]
