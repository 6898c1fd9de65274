"""Every number that the makemore lectures and their write-ups print, in order, and how ours is held against it.

This table is the only place where a published number stands. A line of it is a fact: what a student has seen, as it was
printed, the true value where the source is wrong, and what an agreement is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.analysis.studies import predict_one_more

EQUAL, SEEDS, SHOWN = "equal", "seeds", "shown"  # Beside them, a tolerance.
PARITY = 1e-4  # Where PyTorch's own weights are given.

# What a fact is about: any words, five names and PyTorch's weights for the letters a to z, or the lecture's list.
ANY, FIVE, LIST = "any words", "the lecture's five names", "the lecture's list"

# Of later lectures, for the ladder: dev losses.
LATER = {"lecture 5: flat, block 8, batch norm": 2.027, "lecture 5: hierarchical, 76,000 parameters": 1.993}

SPOKEN = "a statement"


@dataclass(frozen=True)
class Fact:
    """One line of the comparison.

    Attributes:
        section: the section that measures it.
        key: the name under which the section returns our value.
        what: in words.
        printed: as the source prints it; several numbers have ` / ` between them.
        check: EQUAL, an absolute tolerance, SEEDS (the number is one run's, and lies in the prediction interval of our
            seeds), or SHOWN (a statement, which the section returns as (whether it holds, what was measured)).
        true: the true value, where the source is wrong.
        note: what explains a difference.
        of: ANY, FIVE or LIST.
    """

    section: str
    key: str
    what: str
    printed: str
    check: str | float = EQUAL
    true: str = ""
    note: str = ""
    of: str = LIST

    @property
    def values(self) -> list[float]:
        """The numbers that ours are compared with."""
        texts = (self.true or self.printed).split(" / ")
        return [float(text.replace(",", "").removesuffix(" %")) for text in texts]


FACTS = (
    Fact("data", "n-gram tables", "cells of a bigram, trigram, 4-gram table", "729 / 19,683 / 531,441", of=FIVE),
    Fact("data", "names", "names in the list", "32,033"),
    Fact("data", "characters", "characters, with the dot", "27", of=FIVE),
    Fact("data", "five windows", "windows of the first five names", "32", of=FIVE),
    Fact("data", "all windows", "windows of all names", "228,146"),
    Fact("data", "all windows", "the same in one write-up", "28,000", true="228,146", note="a digit is missing"),
    Fact("data", "split", "windows of the 80/10/10 split, seed 42", "182,625 / 22,655 / 22,866"),
    Fact("data", "shuffled on", "the same in another, which shuffles four times", "182,441 / 22,902 / 22,803",
         note="seeded anew each time, so one permutation is applied four times"),
    Fact("data", "newline", "a trailing newline makes one false example", SPOKEN, SHOWN, of=ANY),
    Fact("data", "sorting", "sorting puts the dot first only by luck", SPOKEN, SHOWN, of=ANY),
    Fact("bigram", "likeliest", "bigram, maximum likelihood, whole list", "2.45409", PARITY,
         note="summed in float32; in float64 it is 2.454014"),
    Fact("bigram", "add one", "bigram, one added to every count", "2.45436", 1e-6, true="2.454577",
         note="the loss of the smoothed model on the whole list is higher"),
    Fact("bigram", "unigram", "the letters' frequencies alone", "2.8227", PARITY),
    Fact("bigram", "uniform", "uniform guess, log 27", "3.2958", PARITY, of=FIVE),
    Fact("pieces", "parameters", "parameters, d = 2, h = 100, block 3", "3,481", of=FIVE),
    Fact("pieces", "parameters", "the same in one write-up", "3,418", true="3,481", note="two digits swapped", of=FIVE),
    Fact("pieces", "lookup", "a row, several, repeated rows, a table of indices: lookup = one-hot times table",
         "equal", SHOWN, of=ANY),
    Fact("pieces", "concatenation", "concatenating by position = reshaping", "equal", SHOWN, of=ANY),
    Fact("pieces", "row sums", "every row of the softmax sums to one", "1.0000", 1e-6, of=ANY),
    Fact("pieces", "first loss", "loss at the start, five names", "17.7697", PARITY, of=FIVE),
    Fact("pieces", "first losses", "the same in another, without a seed", "16.4829", SEEDS, of=FIVE),
    Fact("pieces", "offsets", "softmax of [1, 2, 3] + k, k from -10 to 9", "0.0900 / 0.2447 / 0.6652", PARITY, of=ANY),
    Fact("pieces", "overflow", "loss of logits [-2, -3, 0, 100] for target 0, whose exponentials overflow", "102", 1e-3,
         of=ANY),
    Fact("five_names", "descent", "loss before update 0, 1, 2, 9, 10, 11, 100",
         "17.7697 / 13.6564 / 11.2988 / 4.4147 / 3.9858 / 3.6028 / 0.3354", PARITY, of=FIVE),
    Fact("five_names", "end", "loss before update 999", "0.2561", 5e-3, of=FIVE,
         note="rate 0.1 is at the edge of stability here, so a processor's last bits grow to 0.0024"),
    Fact("five_names", "floor", "the floor: five names share the context `...`", "0.251475", 1e-6, of=FIVE,
         note="5 ln 5 / 32"),
    Fact("all_names", "descent", "all names, loss before update 0, 1, 10, 11, 24",
         "19.5052 / 17.0845 / 10.7096 / 10.4076 / 7.6332", PARITY),
    Fact("minibatches", "work", "an approximate gradient and more steps beat an exact one and fewer", SPOKEN, SHOWN,
         of=ANY),
    Fact("finder", "ratio", "ratio of neighbours of 1,000 rates, exponents -3 to 0", "1.006939", 1e-6, of=ANY),
    Fact("finder", "chosen", "0.1 chosen from a plot", "0.1", SHOWN),
    Fact("finder", "off by one", "rates left when the JavaScript port skips the first: it ends with none", "1,000",
         true="999", note="off by one: the last step has no rate", of=ANY),
    Fact("longer", "plateau", "the rate is lowered tenfold when the loss plateaus", SPOKEN, SHOWN, of=ANY),
    Fact("longer", "gap", "30,000 steps at 0.1: train and dev about equal, under-fitting", SPOKEN, SHOWN, of=ANY),
    Fact("longer", "port parameters", "parameters of the JavaScript port: d = 3, block 4, h = 100, all U(-1, 1)",
         "4,108", of=FIVE),
    Fact("changes", "wider parameters", "parameters, h = 300", "10,281", of=FIVE),
    Fact("changes", "wider parameters", "the same in one write-up", "10,000", true="10,281", note="rounded", of=FIVE),
    Fact("changes", "wider", 'h = 300 "won\'t have much effect"', SPOKEN, SHOWN, of=ANY,
         note="with all weights N(0, 1), a wider layer begins with larger logits"),
    Fact("changes", "larger batch", 'a larger batch "to prevent jitter"', SPOKEN, SHOWN, of=ANY),
    Fact("changes", "larger embedding", 'the embedding "seems to be the bottleneck"', SPOKEN, SHOWN, of=ANY),
    Fact("embedding", "vowels", "d = 2: the vowels lie together", "a plot", SHOWN),
    Fact("embedding", "apart", "d = 2: q and the dot lie apart", "a plot", SHOWN),
    Fact("large", "first steps", "the first 500 minibatch losses of PyTorch's run, d = 10, h = 200",
         "from lecture.npz", SHOWN),
    Fact("large", "train", "d = 10, h = 200, 200,000 steps: train", "2.1260", SEEDS),
    Fact("large", "dev", "the same: dev", "2.1701", SEEDS),
    Fact("samples", "five", "5 sampled names", "a list", SHOWN, of=ANY),
    Fact("samples", "twenty", "20 sampled names", "a list", SHOWN, of=ANY),
    Fact("initialisation", "normal", "loss at step 0, all N(0, 1)", "27.88", 0.01),
    Fact("initialisation", "scaled_output", "logits near zero: output x 0.01", "3.322", 1e-3),
    Fact("initialisation", "scaled_hidden", "and hidden weights x 0.2", "3.314", 1e-3),
    Fact("initialisation", "kaiming_tanh", "or hidden weights of std (5/3)/sqrt(30)", "3.318", 1e-3),
    Fact("initialisation", "saturated", "share of |tanh| > 0.99 on that batch: N(0, 1), x 0.2, 5/3",
         "60.9 % / 1.0 % / 8.1 %", 0.06),
    Fact("initialisation", "no gradient", "a saturated tanh passes no gradient back, 1 - tanh^2", SPOKEN, SHOWN,
         of=ANY),
    Fact("schemes", "normal losses", "200,000 steps, normal: train / dev", "2.1245 / 2.1682", SEEDS),
    Fact("schemes", "scaled_output losses", "200,000 steps, scaled_output: train / dev", "2.07 / 2.13", SEEDS),
    Fact("schemes", "scaled_hidden losses", "200,000 steps, scaled_hidden: train / dev", "2.0356 / 2.1027",
         SEEDS),
    Fact("schemes", "kaiming_tanh losses", "200,000 steps, kaiming_tanh: train / dev", "2.0377 / 2.1070",
         SEEDS),
    Fact("schemes", "batch norm losses", "200,000 steps, and batch norm: train / dev", "2.0668 / 2.1048", SEEDS,
         note="chance may do that; the lecture also evaluates with running averages, this project with exact moments"),
    Fact("schemes", "root", '"N(0, 1/sqrt(n))" as a distribution', "1/sqrt(n)", SHOWN, of=ANY,
         note="it is the standard deviation that is 1/sqrt(fan_in)"),
    Fact("schemes", "year", '"Kaiming He, 2020"', "2020", true="2015", of=ANY,
         note="He et al. 2015, whose gain sqrt(2) is for ReLU; 5/3 is PyTorch's gain for tanh"),
    Fact("schemes", "zeros", "all zeros learns the letters' frequencies only", "2.8211", 1e-3),
    Fact("deep", "parameters", "six linear layers with batch norm: parameters", "47,024", of=FIVE,
         note="the lecture also normalises the logits: a gain and a shift there, 54, where this model has a bias, 27"),
    Fact("deep", "first loss", "loss at step 0", "3.2870", SEEDS,
         note="there the normalised logits have a gain of 0.1, here the output weights are scaled by 0.01"),
    Fact("deep", "std", "second layer's tanh after 1,000 steps: standard deviation", "0.63", SEEDS),
    Fact("deep", "saturated", "and share of |tanh| > 0.97", "2.78 %", SEEDS),
    Fact("paper", "inputs", "30 dimensions, three words: inputs", "90", of=ANY),
    Fact("paper", "arrows", "17,000 words, 100 tanh units, softmax over all words, and the dashed arrows", "drawn",
         SHOWN, of=ANY),
    Fact("paper", "words", '"70,000" words in one write-up: AP News', "70,000", true="17,964", of=ANY,
         note="|V| is 17,964 for AP News and 16,383 for Brown"),
    Fact("paper", "unseen", "contexts never seen, such as the dog in the room: the embedding carries over", "argued",
         SHOWN, of=ANY),
    Fact("paper", "brown", "the same on Brown, where not even the pair of words was seen", "argued", SHOWN),
    Fact("paper", "neighbours", "words near dog", "argued", SHOWN, of=ANY),
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A fact with our value, and whether the two agree (None: there is nothing to compare with)."""

    fact: Fact
    ours: str
    verdict: str
    agrees: bool | None


HEADER = ["what", "printed", "ours", "agreement"]
NO_COUNTERPART, NOT_MEASURED = "no counterpart: of other words", "not measured here"


def compare(section: str, measured: Mapping[str, Any], known: Sequence[str] = (ANY, FIVE, LIST)) -> list[Line]:
    """The lines of a section, from the values that it returned.

    `known` are the kinds of facts that hold for the words at hand; the others have no counterpart. What rests on a
    study of this repository is not measured where the repository is not at hand.
    """
    lines = []
    for fact in (fact for fact in FACTS if fact.section == section):
        if fact.key not in measured:
            lines.append(Line(fact, "", NOT_MEASURED, None))
        else:
            lines.append(judge(fact, measured[fact.key], fact.of in known))
    return lines


def judge(fact: Fact, ours: Any, comparable: bool = True) -> Line:
    """Our value beside a published one."""
    if fact.check == SHOWN:
        holds, text = ours
        if not comparable:
            return Line(fact, text, NO_COUNTERPART, None)
        return Line(fact, text, _with_note("shown" if holds else "not seen here", fact), bool(holds))
    values = np.atleast_1d(np.asarray(ours, float))
    if not comparable:
        means = values.reshape(len(fact.values), -1).mean(axis=1) if fact.check == SEEDS else values
        return Line(fact, " / ".join(map(_number, means)), NO_COUNTERPART, None)
    if fact.check == SEEDS:
        return _judge_seeds(fact, values.reshape(len(fact.values), -1))
    n = len(fact.values)
    tolerance = 0.0 if fact.check == EQUAL else float(fact.check)
    differences = np.abs(values - fact.values)
    agrees = bool((differences <= tolerance + 1e-12).all())
    printed = (fact.true or fact.printed).split(" / ")
    text = " / ".join(_like(value, one) for value, one in zip(values[:n], printed, strict=True))
    if not agrees:
        verdict = f"differs by {differences.max():.3g}"
    elif fact.true:
        verdict = "the source is wrong"
    else:
        verdict = "equal" if fact.check == EQUAL else f"within {tolerance:.0e}".replace("e-0", "e-")
    return Line(fact, text, _with_note(verdict, fact), agrees)


def _judge_seeds(fact: Fact, by_seed: np.ndarray) -> Line:
    intervals = [predict_one_more(values, value) for values, value in zip(by_seed, fact.values, strict=True)]
    rounding = [0.5 * 10 ** -len(text.removesuffix(" %").partition(".")[2]) for text in fact.printed.split(" / ")]
    inside = [
        interval.low - half <= value <= interval.high + half  # The printed number is rounded.
        for value, half, interval in zip(fact.values, rounding, intervals, strict=True)
    ]
    digits = 2 if max(fact.values) > 10 or fact.printed.endswith("%") else 4
    text = " / ".join(f"{values.mean():.{digits}f}" for values in by_seed)
    where = " / ".join(f"[{one.low:.{digits}f}, {one.high:.{digits}f}]" for one in intervals)
    verdict = (
        f"{'inside' if all(inside) else 'outside'} {where}, where one more run of ours lies, {by_seed.shape[1]} seeds"
    )
    return Line(fact, text, _with_note(verdict, fact), all(inside))


def _with_note(verdict: str, fact: Fact) -> str:
    return f"{verdict}: {fact.note}" if fact.note else verdict


def _like(value: float, printed: str) -> str:
    """A value with as many digits as the printed one."""
    digits = len(printed.removesuffix(" %").partition(".")[2])
    comma = "," if "," in printed else ""
    return f"{value:{comma}.{digits}f}" + " %" * printed.endswith("%")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:.4f}"
