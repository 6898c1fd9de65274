"""What one looks at: neighbours of words in the learned embedding, a map of frequent words, and drawn sentences."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float

from experiments.findings.palette import COLOURS, STYLE
from experiments.findings.picture import save_figure
from experiments.material import TextMaterial
from mlp_lm.model import Params
from mlp_lm.sampling import SAMPLING, sample_ids
from mlp_lm.training import purpose_key
from mlp_lm.vocabulary import BOUNDARY, BOUNDARY_ID, Vocabulary

# Words of several kinds: days, numbers, people, verbs, qualities, places.
QUERIES = ("Monday", "three", "he", "could", "said", "city", "John", "red", "France", "dog", "night", "kitchen")
N_QUERIES = 8
N_NEIGHBOURS = 6
N_KNOWN = 3_000  # Neighbours are searched among the most frequent words: vectors of rare ones are hardly trained.
N_MAPPED = 120
N_SENTENCES = 12


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
        for i, (x, y) in zip(places, plane, strict=True):
            axis.annotate(vocabulary.tokens[i], (x, y), (2, 2), textcoords="offset points", fontsize=7)
        axis.set_title(f"The {len(places)} most frequent words: two of many dimensions, {share:.0%} of the variance")
        axis.set_xlabel("first principal component")
        axis.set_ylabel("second")
        save_figure(figure, path)


def sentences(params: Params, material: TextMaterial, block_size: int, seed: int = 0) -> list[str]:
    """Sentences drawn from a model, each begun after the end of a sentence of the training part."""
    train = material.windows("train", block_size)
    ends = np.flatnonzero(train.contexts[:, -1] == BOUNDARY_ID)
    starts = train.contexts[np.random.default_rng(seed).choice(ends, N_SENTENCES)] if len(ends) else None
    key = purpose_key(np.uint32(seed), SAMPLING)
    model = jax.tree.map(jnp.asarray, params)
    drawn = sample_ids(model, (), key, jnp.float32(1.0), N_SENTENCES, block_size, starts)
    return [joined(np.asarray(ids), material.vocabulary) for ids in drawn]


def joined(ids: Sequence[int] | np.ndarray, vocabulary: Vocabulary) -> str:
    """Words up to the first boundary, which ends a sentence, with blanks between."""
    words = []
    for i in ids:
        words.append(vocabulary.tokens[int(i)])
        if i == BOUNDARY_ID:
            break
    return " ".join(words).replace(f" {BOUNDARY}", BOUNDARY)


def _unit(vectors: Float[np.ndarray, "n embed"]) -> Float[np.ndarray, "n embed"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
