"""Does a token still know which patch of the image it stands for?"""

from seelike.studies.localization.study import Localization

__all__ = ["Localization"]
