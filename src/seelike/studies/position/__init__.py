"""Can the place of an object, and a token's own place, be read off the features?"""

from seelike.studies.position.study import Position

__all__ = ["Position"]
