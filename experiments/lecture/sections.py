"""The walk itself: a section a function, each of which can be copied and run alone.

Sections use nothing but the public faces of `mlp_lm` and `experiments`. A section's arguments are attributes of
`experiments.lecture.walk.Walk`. It returns our values by the keys of `experiments.lecture.published.FACTS`, of which a
statement is a pair (whether it holds, what was measured), and what the figures show. Its docstring is the page's text.
"""

import csv
import itertools
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import gaussian_filter1d

from experiments import SweepResults, estimate, open_sweep, read_ensembles
from mlp_lm import (
    SCHEMES,
    Dataset,
    Dense,
    Params,
    RunConfig,
    cross_entropy,
    fit_count_model,
    forward,
    init_params,
    load_dataset,
    rate_finder_losses,
    sample_from,
    slide_windows,
    train,
)

Measured = dict[str, Any]

# The network of lecture 2 among the runs of the study `longer`.
SMALL = {"hidden_size": 100, "embedding_dim": 2, "batch_size": 32, "schedule": "constant", "block_size": 3}


@jax.jit
def update(params: Params, contexts, targets, rate=0.1):
    """One step of gradient descent; returns the new weights, and the loss before it."""
    loss, grads = jax.value_and_grad(lambda p: cross_entropy(forward(p, contexts).logits, targets))(params)
    return jax.tree.map(lambda p, g: p - rate * g, params, grads), loss


def descend(params: Params, batches: Iterable) -> tuple[Params, np.ndarray]:
    """Gradient descent over batches of (contexts, targets); the weights after it, and the loss before each update."""
    losses = []
    for contexts, targets in batches:
        params, loss = update(params, contexts, targets)
        losses.append(float(loss))
    return params, np.array(losses)


def rows_of(sweep: SweepResults, study: str, **settings) -> list[dict[str, Any]]:
    """The runs of a study with these settings, by seed."""
    ids = set(sweep.request.studies[study])
    rows = [row for row in sweep.rows if row["run_id"] in ids and all(row[k] == v for k, v in settings.items())]
    return sorted(rows, key=lambda row: row["seed"])


def column(rows: Sequence[dict[str, Any]], name: str = "dev_loss") -> np.ndarray:
    """One number a run, or one list a run."""
    return np.array([row[name] for row in rows])


def data(names: Dataset, five: Sequence[str]) -> Measured:
    """A word becomes one example a character, and one for its end: the context is the characters before it.

    The dot pads the beginning and is the end. Words are divided 80/10/10, not windows; a name that the list has twice
    can still be in two parts. A trailing newline would be an empty word and teach the model that a name may end before
    it begins; and the dot comes first in the vocabulary because it is put there: some characters sort before it.
    """
    vocabulary = names.vocabulary
    first = slide_windows(five, vocabulary, block_size=3)
    split = [len(names.windows(part, 3)) for part in ("train", "dev", "test")]
    shuffled = [word for part in names.parts.values() for word in part]
    order = list(range(len(shuffled)))
    random.Random(42).shuffle(order)
    words = [word for _, word in sorted(zip(order, shuffled, strict=True))]  # As in the file.
    for _ in range(4):
        random.Random(42).shuffle(words)
    cuts = [int(0.8 * len(words)), int(0.9 * len(words))]
    false = len(slide_windows([*five, ""], vocabulary, 3)) - len(first)
    lowest = sorted({"'", "-", "."})[0]
    return {
        "n-gram tables": [len(vocabulary) ** n for n in (2, 3, 4)],
        "names": len(words),
        "characters": len(vocabulary),
        "five windows": len(first),
        "all windows": sum(split),
        "split": split,
        "shuffled on": [int(part.sum()) for part in np.split([len(word) + 1 for word in words], cuts)],
        "newline": (false == 1, f"an empty line makes {false} window more; here, empty lines are dropped"),
        "sorting": (lowest != ".", f"{lowest} sorts before the dot; here, the dot is put first"),
        "windows": (five, first, vocabulary),
    }


def bigram(names: Dataset) -> Measured:
    """Count which character follows which, and divide: the best model that sees one character.

    The loss is the mean of -log p over the whole list. Adding one to every count keeps unseen pairs possible, and makes
    the loss on the counted list itself a little higher. Without any context, the letters' frequencies remain.
    """
    counted = names.counted(1, ("train", "dev", "test"))  # Distinct contexts, and how often each part saw what after.
    counts = counted.counts.sum(axis=0, dtype=float)

    def loss(table):
        probabilities = table / table.sum(axis=-1, keepdims=True)
        return -(counts * np.log(np.where(counts > 0, probabilities, 1))).sum() / counts.sum()

    return {
        "likeliest": loss(counts),
        "add one": loss(counts + 1),
        "unigram": loss(counts.sum(axis=0, keepdims=True)),
        "uniform": np.log(len(names.vocabulary)),
    }


def pieces(names: Dataset, five: Sequence[str], small: Params) -> Measured:
    """The network in its pieces: look up, concatenate, tanh, softmax.

    Looking up a row is the product of a one-hot vector with the table, only faster. A softmax does not change when a
    constant is added to all logits, so subtracting the largest one keeps the exponentials from overflowing. For the
    lecture's letters the weights are PyTorch's, drawn with the lecture's seed, so the first loss is the lecture's.
    """
    config = RunConfig(init="normal", hidden_size=100, embedding_dim=2)
    architecture = config.architecture(len(names.vocabulary))
    windows, table = slide_windows(five, names.vocabulary, 3), small.embedding
    contexts, targets = jnp.asarray(windows.contexts), jnp.asarray(windows.targets)
    indices = [jnp.array(i) for i in (5, [5, 6, 7], [5, 5, 5], contexts)]
    lookups = [(table[i] == jax.nn.one_hot(i, len(table)) @ table).all() for i in indices]
    vectors = table[contexts]  # [32, 3, 2]
    joined = jnp.concatenate([vectors[:, 0], vectors[:, 1], vectors[:, 2]], axis=1)
    logits = forward(small, contexts).logits
    shifted = [jax.nn.softmax(jnp.array([1.0, 2.0, 3.0]) + k) for k in range(-10, 10)]
    own = [init_params(jax.random.key(seed), SCHEMES["normal"], architecture) for seed in range(8)]
    same = bool((joined == vectors.reshape(-1, 6)).all())
    return {
        "parameters": architecture.n_params,
        "lookup": (all(lookups), "equal, bit for bit"),
        "concatenation": (same, "equal, bit for bit"),
        "row sums": jax.nn.softmax(logits).sum(axis=1).mean(),
        "first loss": cross_entropy(logits, targets),
        "first losses": [cross_entropy(forward(p, contexts).logits, targets) for p in own],
        "offsets": np.mean(shifted, axis=0),
        "overflow": cross_entropy(jnp.array([[-2.0, -3.0, 0.0, 100.0]]), jnp.array([0])),
    }


def five_names(names: Dataset, five: Sequence[str], small: Params) -> Measured:
    """A network of thousands of weights learns a few dozen windows by heart, but not to a loss of zero.

    All five names begin after the same context, `...`, and the lecture's with five different letters: nothing can tell
    which. The best that a model can do there is a fifth for each, and that is log 5 nats in 5 of their 32 windows.
    """
    windows = slide_windows(five, names.vocabulary, 3)
    _, losses = descend(small, itertools.repeat((windows.contexts, windows.targets), 1000))
    seen: dict[bytes, list[int]] = {}
    for context, target in zip(windows.contexts, windows.targets, strict=True):
        seen.setdefault(context.tobytes(), []).append(target)
    nats = [-np.log(targets.count(t) / len(targets)) for targets in seen.values() for t in targets]
    return {
        "descent": losses[[0, 1, 2, 9, 10, 11, 100]],
        "end": losses[999],
        "floor": np.mean(nats),
        "losses": losses,
    }


def all_names(names: Dataset, small: Params) -> Measured:
    """The same descent on every window of the list: each step sees all of them, and is exact.

    There are far fewer distinct contexts than windows, so the sum over windows is a sum over contexts, weighted by how
    often each is followed by what. That is the same number for a fraction of the work.
    """
    counted = names.counted(3, ("train", "dev", "test"))
    contexts, counts = jnp.asarray(counted.contexts), counted.counts.sum(axis=0)

    @jax.jit
    def step(params):
        def loss(p):
            return -(counts * jax.nn.log_softmax(forward(p, contexts).logits)).sum() / counts.sum()

        value, grads = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), value

    params, losses = small, []
    for _ in range(25):
        params, value = step(params)
        losses.append(float(value))
    return {"descent": [losses[i] for i in (0, 1, 10, 11, 24)]}


def minibatches(names: Dataset, sweep: SweepResults) -> Measured:
    """Thirty-two windows at a time: each gradient is only roughly right, but there are thousands of them.

    For the work of one step of full-batch descent, a minibatch run makes as many steps as there are batches in the
    training part. Step for step the exact gradient is not much better; example for example it is far behind.
    """
    exact, rough = (rows_of(sweep, "minibatches", batch_size=size) for size in (0, 32))
    longer = rows_of(sweep, "longer", **SMALL)
    work = min(32 * longer[0]["n_steps"], names.n_windows * exact[0]["n_steps"])  # Examples that both have seen.
    ends = []
    for rows, size in ((longer, 32), (exact, names.n_windows)):
        steps = np.array(rows[0]["history_step"])
        last = np.flatnonzero(steps * size <= work)[-1]
        ends.append((steps[last], estimate(column(rows, "history_dev_loss")[:, last])))
    (many, mini), (few, full) = ends
    seen = f"{work:,} examples: dev {mini} after {many:,} minibatches, {full} after {few:,} full-batch steps"
    return {
        "work": (mini.high < full.low, seen),
        "curves": {"full batch": exact, "minibatches of 32": rough, "minibatches of 32, longer": longer},
        "n_windows": names.n_windows,
    }


def finder(names: Dataset) -> Measured:
    """Raise the rate at every step, a little more than half a per cent, and see where the loss stops falling.

    The exponents of ten are evenly spaced, so that every decade gets as many steps. One curve is noise on noise: here
    eight runs are averaged and smoothed, and the choice of each run alone shows how much to trust a single plot.
    """
    rates = 10 ** np.linspace(-3, 0, 1000)
    config = RunConfig(init="normal", hidden_size=100, embedding_dim=2)
    losses = rate_finder_losses(config, names, rates, seeds=8)  # [seed, step], before each update.
    smooth = gaussian_filter1d(losses.astype(float), 20, axis=1, mode="nearest")
    by_seed, chosen = rates[smooth.argmin(axis=1)], rates[smooth.mean(axis=0).argmin()]
    low, high = by_seed.min(), by_seed.max()
    cost = smooth.mean(axis=0)[np.abs(rates - 0.1).argmin()] - smooth.mean(axis=0).min()
    seen = f"minimum at {chosen:.2f}, single runs {low:.2f} to {high:.2f}; at 0.1 the loss is {cost:.2f} higher"
    return {
        "ratio": rates[1] / rates[0],
        "chosen": (low <= 0.1 <= high, seen),
        "off by one": len(rates[1:]),
        "curve": (rates, smooth, chosen),
    }


def longer(sweep: SweepResults) -> Measured:
    """30,000 steps at a rate of 0.1, for eight seeds.

    Train and dev about equal means that the model is too small to learn the list by heart: it under-fits, and a larger
    one should help. A lower rate in the second half, or after evaluations without gain, helps as it is.
    """
    base = rows_of(sweep, "longer", **SMALL)
    gap, dev = estimate(column(base) - column(base, "train_loss")), estimate(column(base))
    halved, stalled = (
        estimate(column(rows_of(sweep, "longer", **(SMALL | {"schedule": schedule}))) - column(base))
        for schedule in ("step_decay", "plateau")
    )
    lowered = f"dev {halved.signed()} when lowered half-way, {stalled.signed()} at a plateau, paired by seed"
    return {
        "plateau": (halved.high < 0, lowered),
        "gap": (gap.mean < 0.02, f"dev {dev}, which is {gap.signed()} above train"),
        "port parameters": rows_of(sweep, "longer", embedding_dim=3)[0]["n_params"],
    }


def changes(sweep: SweepResults, studies: Path | None) -> Measured:
    """One change at a time: what is the bottleneck?

    Differences in dev loss are paired by seed and have 95 % intervals: both runs of a pair begin with the same draws,
    as far as their sizes allow. Jitter is the standard deviation of the last ten dev losses of a run.
    """
    what: dict[str, dict[str, Any]] = {
        "d = 2, h = 100": {},
        "h = 300": {"hidden_size": 300},
        "batch 128": {"batch_size": 128},
        "d = 10": {"embedding_dim": 10},
        "rate / 10 half-way": {"schedule": "step_decay"},
        "rate / 10 at a plateau": {"schedule": "plateau"},
        "d = 3, block 4, U(-1, 1)": {"embedding_dim": 3, "block_size": 4},
    }
    runs = {label: rows_of(sweep, "longer", **(SMALL | change)) for label, change in what.items()}
    base = column(runs["d = 2, h = 100"])
    wider, batch, larger = (estimate(column(runs[label]) - base) for label in ("h = 300", "batch 128", "d = 10"))
    beats = estimate(column(runs["d = 10"]) - column(runs["h = 300"]))
    restless, calm = (
        estimate(column(runs[label], "history_dev_loss")[:, -10:].std(axis=1))
        for label in ("d = 2, h = 100", "batch 128")
    )
    effect = f"dev {wider.signed()}; the larger embedding {larger.signed()}"
    if studies is not None:  # The same sizes from a better beginning, 50,000 steps.
        grid = open_sweep(studies / "grid")
        sizes = [rows_of(grid, "grid", **(SMALL | {"hidden_size": h, "schedule": "step_decay"})) for h in (100, 300)]
        effect += f"; initialised as kaiming_tanh {estimate(column(sizes[1]) - column(sizes[0])).signed()}"
    return {
        "wider parameters": runs["h = 300"][0]["n_params"],
        "wider": (abs(wider.mean) < abs(larger.mean) / 2, effect),
        "larger batch": (calm.high < restless.low, f"jitter {restless} with 32, {calm} with 128; dev {batch.signed()}"),
        "larger embedding": (beats.high < 0, f"d = 10: dev {larger.signed()}, and {beats.signed()} to h = 300"),
        "runs": runs,
    }


def embedding(names: Dataset, sweep: SweepResults) -> Measured:
    """Two dimensions can be plotted: each character is a point, and characters that act alike come to lie together.

    The film strip shows one run from its random draw on. What is stated below is counted over all eight seeds.
    """
    runs, tokens = rows_of(sweep, "longer", **SMALL), names.vocabulary.tokens
    vowels = [i for i, token in enumerate(tokens) if token in "aeiou"]
    ratios, outer = [], []
    for row in runs:
        table = np.asarray(sweep.params(row["run_id"]).embedding)
        apart = np.linalg.norm(table[:, None] - table[None], axis=2)  # [token, token]
        n, m = len(vowels), len(tokens)
        ratios.append(apart[np.ix_(vowels, vowels)].sum() / max(n * (n - 1), 1) / (apart.sum() / (m * (m - 1))))
        farthest = np.argsort(-np.linalg.norm(table - table.mean(axis=0), axis=1))[:5]
        outer.append({tokens[i] for i in farthest})
    closer, lone = sum(ratio < 1 for ratio in ratios), {token: sum(token in far for far in outer) for token in "q."}
    film = runs[0]["history_embedding"]  # Kept at every evaluation, of tables small enough to look at.
    measured: Measured = {}
    if film is not None:
        measured["film"] = runs[0]["history_step"], np.array(film).reshape(-1, len(tokens), 2), tokens
    if len(vowels) < 2 or "q" not in tokens:
        return measured
    near = f"mean distance {np.median(ratios):.2f} of that of all (median), below 1 in {closer} of {len(runs)} seeds"
    far = ", ".join(f"{token} in {n}" for token, n in lone.items()) + f" of {len(runs)} seeds"
    return measured | {
        "vowels": (closer > len(runs) / 2, near),
        "apart": (min(lone.values()) > len(runs) / 2, f"among the five farthest from the middle: {far}"),
    }


def large(names: Dataset, sweep: SweepResults, kaiming: Params, minibatches: Any, torch_losses: Any) -> Measured:
    """Ten dimensions, two hundred hidden units, 200,000 steps, and a rate that falls tenfold half-way.

    On the lecture's list, from PyTorch's weights and with PyTorch's minibatches, the losses are PyTorch's. With our own
    draws they differ from seed to seed, so a published run is compared with the range in which one more run of ours
    would lie.
    """
    windows = names.windows("train", 3)
    _, losses = descend(kaiming, zip(windows.contexts[minibatches], windows.targets[minibatches], strict=True))
    runs = rows_of(sweep, "initialisation", init="normal")
    measured = {"train": column(runs, "train_loss"), "dev": column(runs)}
    if torch_losses is None:
        return measured
    off = np.abs(losses - torch_losses).max()
    return measured | {"first steps": (off < 1e-4, f"largest difference {off:.1e}")}


def samples(names: Dataset, sweep: SweepResults) -> Measured:
    """Start with dots, draw a character from the softmax, shift it into the context, and go on until a dot.

    A model that only repeats its training list would be useless, so beside the names stands how many of a thousand are
    in that list.
    """
    runs = rows_of(sweep, "initialisation", init="kaiming_tanh")
    best = min(runs, key=lambda row: row["dev_loss"])
    words = sample_from(sweep.params(best["run_id"]), (), names, n=1000, seed=0)
    known = set(map("".join, names.parts["train"]))
    share = np.mean([word in known for word in words])
    return {
        "five": (True, ", ".join(words[:5])),
        "twenty": (True, f"{', '.join(words[:20])}; of 1,000, {share:.0%} are in the training list"),
    }


def initialisation(names: Dataset, drawn: Params, minibatches: Any) -> Measured:
    """At step 0 nothing is known, so the loss should be log 27; a loss of 27 means that the network is sure and wrong.

    Logits near zero repair that. Then the tanh: where |h| is near 1, its slope 1 - h^2 is near 0, and no gradient gets
    through. On the lecture's list these are PyTorch's draws and its first minibatch: the numbers are the lecture's own.
    """
    windows, first = names.windows("train", 3), minibatches[0]
    contexts, targets = jnp.asarray(windows.contexts[first]), jnp.asarray(windows.targets[first])
    w1, b1, w2, b2 = jax.tree.leaves((drawn.hidden, drawn.output))
    quiet = (0.01 * w2, 0 * b2)
    models = {
        "normal": (w1, b1, w2, b2),
        "scaled_output": (w1, b1, *quiet),
        "scaled_hidden": (0.2 * w1, 0.01 * b1, *quiet),
        "kaiming_tanh": ((5 / 3) / len(w1) ** 0.5 * w1, 0.01 * b1, *quiet),
    }
    passes = {}
    for scheme, (w, b, v, a) in models.items():
        params = Params(drawn.embedding, hidden=(Dense(w, b),), norms=(), output=Dense(v, a), direct=None)
        passes[scheme] = forward(params, contexts)
    hidden = {scheme: np.asarray(passed.hidden[0]) for scheme, passed in passes.items() if scheme != "scaled_output"}
    before, after = ((1 - hidden[scheme] ** 2).mean() for scheme in ("normal", "kaiming_tanh"))
    steepest = (1 - hidden["normal"][np.abs(hidden["normal"]) > 0.99] ** 2).max()
    slopes = (
        f"1 - h^2 averages {before:.2f} with N(0, 1), {after:.2f} with 5/3; where |h| > 0.99 at most {steepest:.3f}"
    )
    return {
        **{scheme: cross_entropy(passed.logits, targets) for scheme, passed in passes.items()},
        "saturated": [100 * (np.abs(h) > 0.99).mean() for h in hidden.values()],
        "no gradient": (before < after / 2, slopes),
        "maps": hidden,
    }


def schemes(sweep: SweepResults, studies: Path | None) -> Measured:
    """What a good beginning is worth after 200,000 steps. The lecture's list has eight seeds each of a published study.

    A standard deviation of gain/sqrt(fan_in) keeps the scale from layer to layer. But all zeros is too little: every
    hidden unit stays like every other, at zero, and only the output bias learns: the letters' frequencies.
    """
    study = sweep if studies is None else open_sweep(studies / "initialisation")
    runs = {
        scheme: rows_of(study, "initialisation", init=scheme, batch_norm=False)
        for scheme in ("normal", "scaled_output", "scaled_hidden", "kaiming_tanh", "zeros")
    }
    runs["batch norm"] = rows_of(study, "initialisation", init="kaiming_tanh", batch_norm=True)
    ends = {label: [column(rows, "train_loss"), column(rows)] for label, rows in runs.items() if rows}
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1000, 30)), rng.standard_normal((30, 200))
    deviation, variance = (x @ w / 30**0.5).std(), (x @ w / 30**0.25).std()
    root = f"30 inputs: preactivations of std {deviation:.2f}; with the variance 1/sqrt(30) it were {variance:.2f}"
    return {
        **{f"{label} losses": losses for label, losses in ends.items()},
        "root": (abs(deviation - 1) < 0.05 < abs(variance - 1), root),
        "year": int(SCHEMES["kaiming_relu"].source.split()[3].rstrip(",")),
        **({"zeros": ends["zeros"][1].mean()} if "zeros" in ends else {}),
    }


def deep(names: Dataset) -> Measured:
    """Five hidden layers and batch norm, which makes every unit's preactivations of a batch standard normal.

    So the tanh is neither saturated nor idle, whatever the scale of the weights. The statistics are of one batch of 32.
    """
    config = RunConfig(hidden_size=100, n_layers=5, batch_norm=True, schedule="constant", n_steps=1000, n_evaluations=1)
    trained = train(config, names, seeds=4)
    contexts = jnp.asarray(names.windows("train", 3).contexts)
    batches = [np.random.default_rng(seed).integers(len(contexts), size=32) for seed in trained.seeds]
    second = [forward(params, contexts[batch]).hidden[1] for params, batch in zip(trained, batches, strict=True)]
    return {
        "parameters": config.architecture(len(names.vocabulary)).n_params,
        "first loss": [history.train_loss[0] for history in trained.histories],
        "std": [h.std() for h in second],
        "saturated": [100 * (jnp.abs(h) > 0.97).mean() for h in second],
    }


def paper(studies: Path | None) -> Measured:
    """Bengio et al. 2003: "The cat is walking in the bedroom" should help with "A dog was running in a room".

    The sentence was never seen, but its words are used like others: a model that learns to place `dog` beside `cat` can
    carry over, while a table of counts must fall back on shorter contexts. The text is small and made from a grammar of
    such sentences; the comparison is on those words of dev whose context of three words training never had.
    """
    text = load_dataset("small")
    config = RunConfig(init="bengio2003", hidden_size=50, learning_rate=0.5, schedule="cosine", n_steps=8_000)
    trained = train(config, text, seeds=4)
    windows, new = text.windows("dev", 3), text.unseen("dev", 3)
    counting = fit_count_model(text, "modified Kneser-Ney", 3)
    counted = -np.log(counting.token_probabilities(windows.contexts[new], windows.targets[new])).mean()
    network = estimate(trained.dev_unseen_loss)
    tokens, dog = text.vocabulary.tokens, text.vocabulary.ids["dog"]
    table = trained[0].embedding / jnp.linalg.norm(trained[0].embedding, axis=1, keepdims=True)
    near = [tokens[i] for i in np.argsort(-(table @ table[dog]))[1:6]]  # The nearest is dog itself.
    published = RunConfig(embedding_dim=30, hidden_size=100, direct=True).architecture(17_000)
    measured = {
        "inputs": published.n_features,
        "arrows": (published.direct, f"`direct=True`: {published.n_params:,} parameters"),
        "words": 17_964,
        "unseen": (network.high < counted, f"{new.sum()} such words: {network} nats, counting {counted:.4f}"),
        "neighbours": ("wolf" in near or "cat" in near, f"in seed 0: {', '.join(near)}"),
    }
    if studies is not None:  # A study of Brown in this repository: perplexities on its test part.
        with (studies / "bengio2003-closed/tables/novelty.csv").open(encoding="utf-8", newline="") as file:
            row = next(row for row in csv.DictReader(file) if row["targets"] == "its bigram never seen")
        ours, theirs = float(row["network"]), float(row["count_model"])
        measured["brown"] = (ours < theirs, f"perplexity {ours:,.0f}, counting {theirs:,.0f}")
    return measured


def ladder(sweep: SweepResults, studies: Path | None) -> Measured:
    """From a uniform guess to an ensemble: what each step is worth, with the count models among them.

    All are losses on dev. On the lecture's list, counting with a context of five characters is hard to beat: the
    lecture's network with three does not; longer contexts, more weights and AdamW together do, in the last rungs, which
    are read from the studies in this repository.
    """
    shortest_first = [
        min((row for row in sweep.baselines.rows if row.context_length == n), key=lambda row: row.dev_loss)
        for n in (1, 3, 5)
    ]
    rungs = [("uniform guess", estimate([sweep.baselines.uniform]), "counting")]
    rungs += [(row.name, estimate([row.dev_loss]), "counting") for row in shortest_first]
    steps = {
        "d = 2, h = 100, 30,000 steps": rows_of(sweep, "longer", **SMALL),
        "d = 2, h = 300": rows_of(sweep, "longer", **(SMALL | {"hidden_size": 300})),
        "d = 10, h = 100": rows_of(sweep, "longer", **(SMALL | {"embedding_dim": 10})),
        "d = 10, h = 200, 200,000 steps": rows_of(sweep, "initialisation", init="normal"),
        "and initialised as kaiming_tanh": rows_of(sweep, "initialisation", init="kaiming_tanh"),
    }
    rungs += [(label, estimate(column(rows)), "the lecture's steps") for label, rows in steps.items()]
    if studies is not None:
        best = open_sweep(studies / "records-noise-seeds")
        single, mixed = best.studies[0].best, min(read_ensembles(best), key=lambda row: row.dev_loss)
        label = f"average of {mixed.networks}, with count models"
        rungs.append(("our best flat network", single.estimate("dev_loss"), "this project's studies"))
        rungs.append((label, estimate([mixed.dev_loss]), "this project's studies"))
    return {"rungs": rungs, "is_lecture": studies is not None}
