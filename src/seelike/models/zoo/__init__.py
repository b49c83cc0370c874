"""``zoo:NAME``: small models that were trained here and come with seelike.

``index.json`` says of each what it is, which recipe made it and what it can do; the weights lie beside it, in half
precision, as safetensors.
"""

from __future__ import annotations

from seelike.models.zoo.index import Member, add, members
from seelike.models.zoo.load import load, names

__all__ = ["Member", "add", "load", "members", "names"]
