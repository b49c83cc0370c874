"""What does a forward pass cost, block by block?"""

from seelike.studies.cost.study import Cost

__all__ = ["Cost"]
