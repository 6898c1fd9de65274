"""What one sees in a learned embedding: neighbours of words, and a map of frequent words."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from experiments.analysis.picture import save_figure
from experiments.analysis.style import COLOURS, STYLE
from mlp_lm.data.vocabulary import Vocabulary

# Words of several kinds: days, numbers, people, verbs, qualities, places.
QUERIES = ("Monday", "three", "he", "could", "said", "city", "John", "red", "France", "dog", "night", "kitchen")
N_QUERIES = 8
N_NEIGHBOURS = 6
N_KNOWN = 3_000  # Neighbours are searched among the most frequent words: vectors of rare ones are hardly trained.
N_MAPPED = 120
CORNERS = ((2, 2, "left", "bottom"), (-2, 2, "right", "bottom"), (2, -2, "left", "top"), (-2, -2, "right", "top"))


def neighbours(embedding: Float[np.ndarray, "vocab embed"], vocabulary: Vocabulary) -> dict[str, list[str]]:
    """The words of the highest cosine similarity to each of a few words."""
    known = vocabulary.tokens[: N_KNOWN + 2]
    vectors = _unit(embedding[: len(known)])
    words = [word for word in QUERIES if word in known]
    words += [word for word in known[2:] if word.isalpha() and word not in words][: max(0, N_QUERIES - len(words))]
    found = {}
    for word in words[:N_QUERIES]:
        place = known.index(word)
        order = np.argsort(-(vectors @ vectors[place]), kind="stable")
        found[word] = [known[i] for i in order if i > 1 and i != place][:N_NEIGHBOURS]
    return found


def draw_map(embedding: Float[np.ndarray, "vocab embed"], vocabulary: Vocabulary, path: Path) -> None:
    """Frequent words in the plane of the two largest principal components of their unit vectors."""
    places = [i for i, word in enumerate(vocabulary.tokens) if i > 1 and word[0].isalnum()][:N_MAPPED]
    vectors = _unit(embedding)[places]
    centred = vectors - vectors.mean(axis=0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    plane = centred @ axes[:2].T
    share = (values[:2] ** 2).sum() / (values**2).sum()
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(9, 7))
        axis.scatter(plane[:, 0], plane[:, 1], s=4, color=COLOURS[1])
        axis.set_title(f"The {len(places)} most frequent words: two of many dimensions, {share:.0%} of the variance")
        axis.set_xlabel("first principal component")
        axis.set_ylabel("second")
        figure.canvas.draw()  # The axes take their place: labels are laid out in pixels.
        _label(axis, plane, [vocabulary.tokens[i] for i in places])
        save_figure(figure, path)


def _label(axis: Axes, points: Float[np.ndarray, "n 2"], words: Sequence[str]) -> None:
    """Write each word beside its point, where no word before it stands; one that finds no place goes unwritten."""
    taken: list[Bbox] = []
    for word, point in zip(words, points, strict=True):
        for dx, dy, side, height in CORNERS:
            label = axis.annotate(
                word, point, (dx, dy), textcoords="offset points", fontsize=7, ha=side, va=height, annotation_clip=False
            )
            box = label.get_window_extent()
            if not box.count_overlaps(taken):
                taken.append(box)
                break
            label.remove()


def _unit(vectors: Float[np.ndarray, "n embed"]) -> Float[np.ndarray, "n embed"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
