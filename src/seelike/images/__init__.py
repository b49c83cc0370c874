"""Where images come from, and how they reach the models: sources, partitions, batches."""

from seelike.images.batches import Batch, load_batches
from seelike.images.load import load_images
from seelike.images.partition import partition
from seelike.images.scenes import Scenes
from seelike.images.source import BadImage, Images
from seelike.images.wrapped import as_images

__all__ = ["BadImage", "Batch", "Images", "Scenes", "as_images", "load_batches", "load_images", "partition"]
