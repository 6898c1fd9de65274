"""What models are trained on: vocabularies, word lists, running text, and the one `Dataset` made of either."""

from mlp_lm.data.dataset import CountedContexts, Dataset, Windows, count_contexts, load_dataset
from mlp_lm.data.vocabulary import BOUNDARY, BOUNDARY_ID, Vocabulary

__all__ = [
    "BOUNDARY",
    "BOUNDARY_ID",
    "CountedContexts",
    "Dataset",
    "Vocabulary",
    "Windows",
    "count_contexts",
    "load_dataset",
]
