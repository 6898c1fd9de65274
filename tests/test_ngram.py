"""Count models against nltk, plain dictionaries, the laws of probability, and the lecture's numbers."""

import math
import os
import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.lm import MLE, AbsoluteDiscountingInterpolated, KneserNeyInterpolated, Laplace

from mlp_lm.ngram.baselines import FAMILIES, fit_count_model, measure_baselines
from mlp_lm.ngram.counts import continuation_counts, count_ngrams
from mlp_lm.ngram.models import (
    FALLBACK_DISCOUNTS,
    absolute_discount,
    add_k,
    choose_discount,
    conditional_entropy,
    deleted_interpolation,
    held_out_loss,
    kneser_ney,
    maximum_likelihood,
    mixture_weights,
    modified_discounts,
    modified_kneser_ney,
)
from tests.conftest import dataset_of


def word_windows(words, block):
    """Windows of every word: id 0 pads on the left and ends the word, letters are 1 to 26."""
    padded = [[0] * block + [ord(letter) - ord("a") + 1 for letter in word] + [0] for word in words]
    rows = np.array([ids[i : i + block + 1] for ids in padded for i in range(len(ids) - block)])
    return rows[:, :-1], rows[:, -1]


def stream_windows(tokens, block):
    """Windows sliding over one stream, no padding."""
    rows = np.lib.stride_tricks.sliding_window_view(np.asarray(tokens), block + 1)
    return rows[:, :-1], rows[:, -1]


def zipf_tokens(seed, size, vocab_size):
    ranks = np.arange(1, vocab_size + 1)
    return np.random.default_rng(seed).choice(vocab_size, size=size, p=(1 / ranks) / np.sum(1 / ranks))


TEXT = [
    "emma",
    "olivia",
    "ava",
    "isabella",
    "sophia",
    "amelia",
    "mia",
    "ella",
    "anna",
    "hannah",
    "ann",
    "emma",
    "lee",
]
VOCAB_SIZE = 27


def all_families(counts, contexts, targets):
    return {
        "maximum likelihood": maximum_likelihood(counts),
        "add one": add_k(counts, 1.0),
        "absolute discount": absolute_discount(counts, 0.7),
        "Kneser-Ney": kneser_ney(counts, 0.6),
        "modified Kneser-Ney": modified_kneser_ney(counts),
        "deleted interpolation": deleted_interpolation(counts, counts.locate(contexts, targets)),
    }


# --- An independent implementation: nltk ---


def nltk_model(model, contexts, targets):
    """Fit nltk to every suffix of every window, the very grams that we count.

    Its vocabulary always holds one token more, "<UNK>", which matters to Laplace's rule.
    """
    rows = [tuple(map(str, row)) for row in np.column_stack([contexts, targets]).tolist()]
    suffixes = [row[start:] for row in rows for start in range(len(row))]
    model.fit([suffixes], vocabulary_text=[str(token) for token in range(VOCAB_SIZE)])
    return model


def nltk_distribution(model, contexts):
    tokens = [str(token) for token in range(VOCAB_SIZE)]
    return [[model.score(token, tuple(map(str, row))) for token in tokens] for row in contexts]


def assert_same_as_nltk(model, theirs, contexts):
    own = model.distribution(contexts)[:, :VOCAB_SIZE]
    np.testing.assert_allclose(own, nltk_distribution(theirs, contexts), rtol=1e-12, atol=1e-15)


def contexts_seen_and_unseen(contexts):
    unseen = np.array([[26, 1], [26, 26], [13, 24]])  # "za", "zz", "mx": only "a" and "m" occur in TEXT
    return np.vstack([np.unique(contexts, axis=0), unseen])


def test_kneser_ney_equals_nltk():
    """nltk leaves its unigrams undiscounted: a discount of 0 for order 0."""
    contexts, targets = word_windows(TEXT, 2)
    theirs = nltk_model(KneserNeyInterpolated(3, discount=0.4), contexts, targets)
    own = kneser_ney(count_ngrams(contexts, targets, 2, VOCAB_SIZE), [0.0, 0.4, 0.4])
    assert_same_as_nltk(own, theirs, contexts_seen_and_unseen(contexts))


def test_absolute_discount_equals_nltk():
    contexts, targets = word_windows(TEXT, 2)
    theirs = nltk_model(AbsoluteDiscountingInterpolated(3, discount=0.75), contexts, targets)
    own = absolute_discount(count_ngrams(contexts, targets, 2, VOCAB_SIZE), [0.0, 0.75, 0.75])
    assert_same_as_nltk(own, theirs, contexts_seen_and_unseen(contexts))


def test_add_one_equals_nltk():
    contexts, targets = word_windows(TEXT, 2)
    theirs = nltk_model(Laplace(3), contexts, targets)
    own = add_k(count_ngrams(contexts, targets, 2, len(theirs.vocab)))
    assert_same_as_nltk(own, theirs, contexts_seen_and_unseen(contexts))


def test_maximum_likelihood_equals_nltk():
    contexts, targets = word_windows(TEXT, 2)
    own = maximum_likelihood(count_ngrams(contexts, targets, 2, VOCAB_SIZE))
    assert_same_as_nltk(own, nltk_model(MLE(3), contexts, targets), np.unique(contexts, axis=0))


# --- Recomputed with plain dictionaries ---


def dictionary_counts(contexts, targets, context_length, kneser_ney):
    """Per order a dictionary context -> Counter of targets, with Kneser-Ney's counts if asked."""
    rows = [tuple(map(int, row)) for row in np.column_stack([contexts, targets])]
    tables = []
    for order in range(context_length + 1):
        grams = [row[len(row) - 1 - order :] for row in rows]
        if kneser_ney and order < context_length:
            grams = [gram[1:] for gram in {row[len(row) - 2 - order :] for row in rows}]
        table = defaultdict(Counter)
        for *context, target in grams:
            table[tuple(context)][target] += 1
        tables.append(table)
    return tables


def interpolate(tables, discounts, context, target, vocab_size):
    """The recursion of Chen and Goodman, for one token; ``discounts[order][count]``, counts above 3 as 3."""
    if not tables:
        return 1 / vocab_size
    *shorter, table = tables
    *lower_discounts, discount = discounts
    longest = context[len(context) - len(shorter) :]
    lower = interpolate(shorter, lower_discounts, context, target, vocab_size)
    if longest not in table:
        return lower
    seen = table[longest]
    total = sum(seen.values())
    direct = seen[target] - discount[min(seen[target], 3)] if seen[target] else 0.0
    return direct / total + sum(discount[min(n, 3)] for n in seen.values()) / total * lower


def dictionary_probabilities(tables, discounts, contexts, targets, vocab_size):
    return [
        interpolate(tables, discounts, tuple(map(int, context)), int(target), vocab_size)
        for context, target in zip(contexts, targets, strict=True)
    ]


def test_absolute_discount_and_kneser_ney_equal_dictionaries():
    contexts, targets = stream_windows(zipf_tokens(1, 300, 12), 3)
    queries = (
        np.random.default_rng(2).integers(0, 12, (200, 3)),
        np.random.default_rng(3).integers(0, 12, 200),
    )
    counts = count_ngrams(contexts, targets, 3, 12)
    for continued, model in [(False, absolute_discount(counts, 0.7)), (True, kneser_ney(counts, 0.7))]:
        tables = dictionary_counts(contexts, targets, 3, kneser_ney=continued)
        expected = dictionary_probabilities(tables, [[0, 0.7, 0.7, 0.7]] * 4, *queries, 12)
        np.testing.assert_allclose(model.token_probabilities(*queries), expected, rtol=1e-12)


def dictionary_discounts(table):
    n = Counter(count for seen in table.values() for count in seen.values())
    if not all(n[i] for i in (1, 2, 3, 4)):
        return [0, *FALLBACK_DISCOUNTS]
    y = n[1] / (n[1] + 2 * n[2])
    discounts = [i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3)]
    return [0, *discounts] if all(0 < d < i for i, d in enumerate(discounts, 1)) else [0, *FALLBACK_DISCOUNTS]


def test_modified_kneser_ney_equals_dictionaries():
    contexts, targets = stream_windows(zipf_tokens(4, 2000, 25), 2)
    queries = (
        np.random.default_rng(5).integers(0, 25, (300, 2)),
        np.random.default_rng(6).integers(0, 25, 300),
    )
    tables = dictionary_counts(contexts, targets, 2, kneser_ney=True)
    discounts = [dictionary_discounts(table) for table in tables]
    fell_back = [discount == [0, *FALLBACK_DISCOUNTS] for discount in discounts]
    assert any(fell_back)
    assert not all(fell_back)
    model = modified_kneser_ney(count_ngrams(contexts, targets, 2, 25))
    expected = dictionary_probabilities(tables, discounts, *queries, 25)
    np.testing.assert_allclose(model.token_probabilities(*queries), expected, rtol=1e-12)


def test_modified_discounts_by_hand():
    """n1 = 4, n2 = 2, n3 = n4 = 1: Y = 4 / 8, D1 = 1 - 1/2, D2 = 2 - 3/4, D3 = 3 - 2."""
    assert modified_discounts(np.array([1, 1, 1, 1, 2, 2, 3, 4, 9])) == (0.5, 1.25, 1.0)


@pytest.mark.parametrize(
    "counts",
    [[1, 1, 1, 2, 2, 3], [5, 6, 7], [1, 2, 3, 3, 3, 3, 3, 4]],
    ids=["no n4", "none at all", "D2 = 2 - 3 * (1/3) * 5 < 0"],
)
def test_degenerate_counts_of_counts_fall_back(counts):
    assert modified_discounts(np.array(counts)) == FALLBACK_DISCOUNTS


def test_deleted_interpolation_equals_its_formula():
    """Weighted relative frequencies, the weights looked up by ceil(-log((1 + frequency) / windows))."""
    contexts, targets = stream_windows(zipf_tokens(7, 500, 10), 2)
    held_out = stream_windows(zipf_tokens(8, 200, 10), 2)
    counts = count_ngrams(contexts, targets, 2, 10)
    model = deleted_interpolation(counts, counts.locate(*held_out))
    tables = dictionary_counts(contexts, targets, 2, kneser_ney=False)
    expected = []
    for context, target in zip(*held_out, strict=True):
        frequency = sum(tables[2].get(tuple(map(int, context)), {}).values())
        bucket = math.ceil(-math.log((1 + frequency) / len(targets)))
        # Without discounts the recursion gives the frequency after the longest seen suffix.
        components = [
            interpolate(tables[:order], [[0] * 4] * order, tuple(map(int, context)), int(target), 10)
            for order in range(4)
        ]
        expected.append(np.dot(model.weights[bucket], components))
    np.testing.assert_allclose(model.token_probabilities(*held_out), expected, rtol=1e-12)


def test_mixture_weights_are_a_maximum():
    """Karush, Kuhn and Tucker: mean(p_j / mixture) is 1 for a component in use, and less for the others."""
    components = np.random.default_rng(9).uniform(0.01, 1.0, (5000, 4)) * [1.0, 1.1, 1.2, 0.1]
    weights = mixture_weights(components, np.full(4, 0.25))
    gradient = np.mean(components / (components @ weights)[:, None], axis=0)
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(gradient[:3], 1.0, atol=0.01)
    assert gradient[3] < 1
    assert weights[3] < 0.01


def test_a_bucket_without_held_out_tokens_keeps_the_prior():
    prior = np.array([0.2, 0.3, 0.5])
    np.testing.assert_array_equal(mixture_weights(np.empty((0, 3)), prior), prior)


def test_deleted_interpolation_is_no_worse_than_any_order_alone():
    contexts, targets = word_windows(TEXT, 3)
    held_out = word_windows(["elma", "oliva", "hanna", "amy"], 3)
    counts = count_ngrams(contexts, targets, 3, VOCAB_SIZE)
    mixed = held_out_loss(deleted_interpolation(counts, counts.locate(*held_out)), *held_out)
    assert mixed < math.log(VOCAB_SIZE)
    for length in range(4):
        assert mixed < held_out_loss(absolute_discount(counts.shortened(length), 0.0), *held_out)


# --- Laws ---


@st.composite
def corpora(draw):
    """A vocabulary size, windows to fit and windows to ask about, contexts often unseen."""
    vocab_size = draw(st.integers(2, 6))
    block = draw(st.integers(1, 3))
    row = st.lists(st.integers(0, vocab_size - 1), min_size=block + 1, max_size=block + 1)
    fitted, asked = (np.array(draw(st.lists(row, min_size=1, max_size=30))) for _ in range(2))
    return vocab_size, (fitted[:, :-1], fitted[:, -1]), (asked[:, :-1], asked[:, -1])


@settings(max_examples=60, deadline=None)
@given(corpora())
def test_distributions_sum_to_one_and_hold_the_token_probabilities(corpus):
    vocab_size, train, asked = corpus
    counts = count_ngrams(*train, train[0].shape[1], vocab_size)
    for family, model in all_families(counts, *asked).items():
        table = model.distribution(asked[0])
        assert table.shape == (len(asked[0]), vocab_size), family
        assert table.min() >= 0, family
        np.testing.assert_allclose(table.sum(axis=1), 1.0, rtol=1e-12, err_msg=family)
        picked = table[np.arange(len(asked[1])), asked[1]]
        np.testing.assert_allclose(model.token_probabilities(*asked), picked, rtol=1e-12, err_msg=family)


@settings(max_examples=40, deadline=None)
@given(corpora())
def test_conditional_entropy_is_the_training_loss_of_maximum_likelihood_and_a_floor(corpus):
    vocab_size, train, asked = corpus
    block = train[0].shape[1]
    counts = count_ngrams(*train, block, vocab_size)
    floor = conditional_entropy(counts)
    assert held_out_loss(maximum_likelihood(counts), *train) == pytest.approx(floor, abs=1e-12)
    for model in all_families(counts, *asked).values():
        assert held_out_loss(model, *train) >= floor - 1e-12
    assert floor <= conditional_entropy(counts.shortened(block - 1)) + 1e-12


def test_conditional_entropy_by_hand():
    """After 1: two 2s and two 3s cost log 2 each; after 2: always 1 costs nothing."""
    contexts = np.array([[1], [1], [1], [1], [2], [2]])
    targets = np.array([2, 2, 3, 3, 1, 1])
    counts = count_ngrams(contexts, targets, 1, 4)
    assert conditional_entropy(counts) == pytest.approx(4 * math.log(2) / 6)
    assert conditional_entropy(counts.shortened(0)) == pytest.approx(math.log(3))


def test_add_k_without_k_is_maximum_likelihood():
    contexts, targets = word_windows(TEXT, 2)
    counts = count_ngrams(contexts, targets, 2, VOCAB_SIZE)
    relative = Counter(map(tuple, np.column_stack([contexts, targets]).tolist()))
    totals = Counter(map(tuple, contexts.tolist()))
    expected = [relative[(*context, target)] / totals[tuple(context)] for *context, target in relative]
    asked = np.array(list(relative))
    np.testing.assert_allclose(add_k(counts, 0.0).token_probabilities(asked[:, :-1], asked[:, -1]), expected)
    never = np.array([[5, 13]]), np.array([26])  # "emz"
    assert held_out_loss(maximum_likelihood(counts), *never) == np.inf


def test_an_unseen_context_falls_to_the_shorter_one():
    contexts, targets = word_windows(TEXT, 3)
    counts = count_ngrams(contexts, targets, 3, VOCAB_SIZE)
    unseen = np.array([[26, 5, 12]])  # "zel": "el" occurs in TEXT, "z" does not
    pairs = [
        (absolute_discount(counts, 0.7), absolute_discount(counts.shortened(2), 0.7)),
        (kneser_ney(counts, 0.7), absolute_discount(continuation_counts(counts).shortened(2), 0.7)),
    ]
    for model, shorter in pairs:
        np.testing.assert_array_equal(model.distribution(unseen), shorter.distribution(unseen))
        assert not np.allclose(model.distribution(np.array([[0, 5, 12]])), shorter.distribution(unseen))


def test_contexts_unseen_at_every_order_leave_add_one_uniform():
    counts = count_ngrams(np.array([[1], [2]]), np.array([2, 1]), 1, 5)
    np.testing.assert_allclose(add_k(counts).distribution(np.array([[4]])), np.full((1, 5), 1 / 5))


def test_everything_discounted_is_uniform_and_costs_log_vocab():
    """Each gram occurs once, so a discount of 1 leaves only the uniform bottom, of perplexity 16."""
    contexts, targets = np.arange(10)[:, None], np.arange(10)
    model = absolute_discount(count_ngrams(contexts, targets, 1, 16), 1.0)
    asked = np.arange(16)
    np.testing.assert_allclose(model.distribution(asked[:, None]), np.full((16, 16), 1 / 16))
    assert math.exp(held_out_loss(model, asked[:, None], asked)) == pytest.approx(16)


def test_a_model_reads_the_last_columns_of_longer_contexts():
    contexts, targets = word_windows(TEXT, 5)
    model = modified_kneser_ney(count_ngrams(contexts, targets, 2, VOCAB_SIZE))
    np.testing.assert_array_equal(model.distribution(contexts), model.distribution(contexts[:, -2:]))


def test_counting_longer_contexts_leaves_shorter_orders_alone():
    contexts, targets = word_windows(TEXT, 4)
    long, short = (count_ngrams(contexts, targets, length, VOCAB_SIZE) for length in (4, 2))
    asked = (absolute_discount(counts, 0.5).distribution(contexts) for counts in (long.shortened(2), short))
    np.testing.assert_array_equal(*asked)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_long_contexts_over_a_large_vocabulary_do_not_overflow(dtype):
    """16,000 ** 8 is beyond 64 bits, and 16,000 * 3,000 beyond the 16 and near the 32 bits of narrow ids."""
    tokens = 15_999 - zipf_tokens(10, 3000, 40) % 30
    tokens[::7] = np.random.default_rng(11).integers(0, 16_000, len(tokens[::7]))
    contexts, targets = stream_windows(np.concatenate([tokens, tokens[:500]]).astype(dtype), 7)
    counts = count_ngrams(contexts, targets, 7, 16_000)
    for length, order in enumerate(counts.orders):
        rows = np.column_stack([contexts[:, 7 - length :], targets]).tolist()
        assert sorted(Counter(map(tuple, rows)).values()) == sorted(order.counts.tolist())
        assert len({tuple(row[:-1]) for row in rows}) == len(order.context_keys)
    frequencies = Counter(map(tuple, np.column_stack([contexts, targets]).tolist()))
    contexts_seen = Counter(map(tuple, contexts.tolist()))
    rows = zip(contexts.tolist(), targets.tolist(), strict=True)
    expected = [frequencies[(*context, target)] / contexts_seen[tuple(context)] for context, target in rows]
    np.testing.assert_allclose(maximum_likelihood(counts).token_probabilities(contexts, targets), expected)


def test_chosen_discount_is_as_good_as_a_fine_grid():
    contexts, targets = stream_windows(zipf_tokens(12, 3000, 20), 2)
    held_out = stream_windows(zipf_tokens(13, 1000, 20), 2)
    counts = count_ngrams(contexts, targets, 2, 20)
    for table in (counts, continuation_counts(counts)):
        chosen = choose_discount(table, counts.locate(*held_out))
        grid = [held_out_loss(absolute_discount(table, d), *held_out) for d in np.linspace(0.01, 0.99, 99)]
        assert 0 < chosen < 1
        assert held_out_loss(absolute_discount(table, chosen), *held_out) <= min(grid) + 1e-5


def test_baselines_have_every_family_at_every_length(few_words):
    dataset = dataset_of(few_words)
    train, dev = ((w.contexts, w.targets) for w in (dataset.windows(part, 7) for part in ("train", "dev")))
    rows = measure_baselines(dataset).rows
    assert [row.context_length for row in rows] == [k for k in range(1, 8) for _ in range(6)]
    assert len({(row.context_length, row.family) for row in rows}) == 42
    for row in rows:
        assert row.distinct_contexts == len({tuple(c[7 - row.context_length :]) for c in train[0].tolist()})
        counted = count_ngrams(*train, row.context_length, len(dataset.vocabulary))
        assert row.floor == pytest.approx(conditional_entropy(counted))
        assert (row.discount is not None) == (row.family in ("absolute discount", "Kneser-Ney"))
    counts = count_ngrams(*train, 2, len(dataset.vocabulary))
    refitted = {
        "add one": lambda row: add_k(counts),
        "absolute discount": lambda row: absolute_discount(counts, row.discount),
        "Kneser-Ney": lambda row: kneser_ney(counts, row.discount),
        "modified Kneser-Ney": lambda row: modified_kneser_ney(counts),
    }
    for row in rows[6:12]:
        if row.family in refitted:
            assert row.dev_loss == held_out_loss(refitted[row.family](row), *dev)
        if row.family in FAMILIES:
            assert row.dev_loss == held_out_loss(fit_count_model(dataset, row.family, 2), dev[0][:, -2:], dev[1])


@pytest.mark.parametrize(
    ("contexts", "targets", "length", "message"),
    [
        ([[0, 1]], [1], 3, "context_length must be from 0 to the block size 2"),
        ([[0, 1]], [5], 1, "token ids must be from 0 to 4"),
        ([[0, -1]], [1], 2, "token ids must be from 0 to 4"),
        (np.empty((0, 2), int), np.empty(0, int), 1, "at least one window"),
    ],
)
def test_bad_windows_are_refused(contexts, targets, length, message):
    with pytest.raises(ValueError, match=message):
        count_ngrams(np.array(contexts), np.array(targets), length, 5)


def test_bad_settings_and_questions_are_refused():
    counts = count_ngrams(np.array([[0, 1]]), np.array([1]), 2, 5)
    for refused in (
        lambda: absolute_discount(counts, 1.5),
        lambda: add_k(counts, -1.0),
        lambda: counts.shortened(3),
    ):
        with pytest.raises(ValueError, match="must"):
            refused()
    with pytest.raises(ValueError, match="token ids"):
        add_k(counts).distribution(np.array([[5, 1]]))
    with pytest.raises(ValueError, match="block size 1"):
        add_k(counts).distribution(np.array([[1]]))


# --- The lecture's names ---


@pytest.fixture(scope="module")
def lecture_words():
    folder = os.environ.get("MLP_LM_SHARED_DATA")
    if not folder:
        pytest.skip("the lecture's names.txt is not ours to ship: MLP_LM_SHARED_DATA names its folder")
    return Path(folder, "names.txt").read_text().split()


@pytest.fixture(scope="module")
def lecture_splits(lecture_words):
    words = list(lecture_words)
    random.Random(42).shuffle(words)
    first, second = int(0.8 * len(words)), int(0.9 * len(words))
    return [word_windows(part, 8) for part in (words[:first], words[first:second], words[second:])]


def test_lecture_bigrams(lecture_words):
    contexts, targets = word_windows(lecture_words, 1)
    counts = count_ngrams(contexts, targets, 1, 27)
    assert held_out_loss(maximum_likelihood(counts), contexts, targets) == pytest.approx(2.454014, abs=1e-6)
    assert held_out_loss(add_k(counts), contexts, targets) == pytest.approx(2.454577, abs=1e-6)


def test_lecture_distinct_contexts(lecture_splits):
    counts = count_ngrams(*lecture_splits[0], 8, 27)
    actual = {length: counts.shortened(length).distinct_contexts for length in (3, 4, 5, 8)}
    assert actual == {3: 5_438, 4: 20_243, 5: 36_544, 8: 50_457}


@pytest.mark.parametrize(("length", "expected"), [(1, 2.453), (2, 2.224), (3, 2.088), (4, 2.058), (5, 2.100)])
def test_lecture_absolute_discount(lecture_splits, length, expected):
    """The reference numbers are those of a grid 0.1, 0.2, ..., 0.9; a finer choice is never worse."""
    train, dev, test = lecture_splits
    counts = count_ngrams(*train, length, 27)
    grid = {tenths: held_out_loss(absolute_discount(counts, tenths / 10), *dev) for tenths in range(1, 10)}
    assert min(grid.values()) == pytest.approx(expected, abs=6e-4)
    chosen = absolute_discount(counts, choose_discount(counts, counts.locate(*dev)))
    assert min(grid.values()) - 0.003 < held_out_loss(chosen, *dev) <= min(grid.values())
    if length == 4:
        assert held_out_loss(chosen, *test) == pytest.approx(2.060, abs=6e-4)
