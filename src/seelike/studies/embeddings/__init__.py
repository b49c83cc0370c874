"""What do the patch embedding and the position embedding look like?"""

from seelike.studies.embeddings.study import Embeddings

__all__ = ["Embeddings"]
