"""How well does each layer separate the classes?"""

from seelike.studies.separation.over_training import over_training
from seelike.studies.separation.study import Separation

__all__ = ["Separation", "over_training"]
