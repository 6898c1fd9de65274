"""Figures of the word-level study: frequent words in a plane, and networks against counting by novelty."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float

from experiments.analysis.style import COLOURS, LINE_COLOURS, STYLE, label_points, save_figure, set_title
from experiments.sweeps.text import percent
from mlp_lm.data.vocabulary import Vocabulary

N_MAPPED = 120
LINES = tuple(zip(LINE_COLOURS, "os", strict=False))  # Colours and markers of the network and of counting.


def plot_map(embedding: Float[np.ndarray, "vocab embed"], vocabulary: Vocabulary, path: Path) -> None:
    """Frequent words in the plane of the two largest principal components of their unit vectors."""
    places = [i for i, word in enumerate(vocabulary.tokens) if i > 1 and word[0].isalnum()][:N_MAPPED]
    vectors = unit_vectors(embedding)[places]
    centred = vectors - vectors.mean(axis=0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    plane = centred @ axes[:2].T
    share = (values[:2] ** 2).sum() / (values**2).sum()
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(9, 7))
        axis.scatter(plane[:, 0], plane[:, 1], s=4, color=COLOURS[1])
        axis.set_title(f"The {len(places)} most frequent words: two of many dimensions, {share:.0%} of the variance")
        axis.set_xlabel("first principal component")
        axis.set_ylabel("second principal component")
        figure.canvas.draw()  # The axes take their place: labels are laid out in pixels.
        label_points(axis, plane, [vocabulary.tokens[i] for i in places], fontsize=7)
        save_figure(figure, path)


def unit_vectors(vectors: Float[np.ndarray, "n embed"]) -> Float[np.ndarray, "n embed"]:
    """Vectors of length one in the same directions; zeros stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def plot_novelty(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Perplexity of a network and of a count model by the longest n-gram seen, a row each of `compare_by_novelty`."""
    shown = [row for row in rows if row["targets"].endswith("-gram seen") or row["targets"] == "word never seen"]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 4))
        for name, shift, colour, marker in (("network", -0.08, *LINES[0]), ("count_model", 0.08, *LINES[1])):
            places = [i + shift for i in range(len(shown))]
            perplexities = [float(row[name]) for row in shown]
            axis.plot(places, perplexities, marker, color=colour, label=name.replace("_", " "))
        labels = [f"{row['targets'].replace(' ', chr(10), 1)}\n{percent(float(row['share']))}" for row in shown]
        axis.set_xticks(range(len(shown)), labels, fontsize=8)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.set(
            xlabel="longest n-gram ending in the word that training has, and its share of tokens", ylabel="perplexity"
        )
        axis.legend()
        set_title(figure, "Network and counting, by how new the words are to them", "lower is better, logarithmic")
        save_figure(figure, path)
