"""What can be read off each layer by a linear classifier?"""

from seelike.studies.probe.study import LinearProbe

__all__ = ["LinearProbe"]
