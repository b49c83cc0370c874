"""Effective receptive fields: what a place of a layer is sensitive to in the image."""

from seelike.studies.field.study import ReceptiveField

__all__ = ["ReceptiveField"]
