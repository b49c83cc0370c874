"""Generated scenes: textured shapes whose class, place, size and textures are known."""

from seelike.images.scenes.shapes import CLASSES
from seelike.images.scenes.sheet import contact_sheet
from seelike.images.scenes.source import SPLITS, Scenes, load_scenes

__all__ = ["CLASSES", "SPLITS", "Scenes", "contact_sheet", "load_scenes"]
