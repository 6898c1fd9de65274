"""Figures that say what is there, and cut nothing off."""

import itertools
from dataclasses import asdict

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from experiments.analysis.figures import plot_embedding, plot_study
from experiments.analysis.studies import Study, describe, make_study
from experiments.analysis.style import STYLE, file_stems
from mlp_lm.config import AXES, RunConfig
from mlp_lm.data.vocabulary import Vocabulary
from tests.synthetic import synthetic_rows

SIZES = {"hidden_size": (50, 100, 200), "embedding_dim": (2, 10), "block_size": (3, 8), "batch_size": (32, 128)}
SCHEMES = {"init": ("normal", "uniform", "kaiming_tanh"), "batch_norm": (False, True)}


def size_study() -> Study:
    return make_study("size", synthetic_rows(SIZES, 3, lambda hidden_size, **_: 2 + 10 / hidden_size, 0.01))


def scheme_study(unbalanced: bool) -> Study:
    losses = {"normal": 2.3, "uniform": 2.25, "kaiming_tanh": 2.1}
    rows = synthetic_rows(SCHEMES, 3, lambda init, batch_norm: losses[init] + 0.03 * batch_norm, 0.005)
    kept = [row for row in rows if row["init"] == "kaiming_tanh" or not row["batch_norm"]]
    return make_study("initialisation", kept if unbalanced else rows)


def drawn(study: Study) -> dict[str, Figure]:
    with plt.rc_context(STYLE):
        return dict(plot_study(study))


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def assert_nothing_cut_off(figure: Figure) -> None:
    figure.canvas.draw()  # Lays it out.
    box = figure.get_tightbbox()  # In inches.
    width, height = figure.get_size_inches()
    assert box.x0 > -0.01 and box.y0 > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01


def assert_titles_are_clear(figure: Figure) -> None:
    figure.canvas.draw()
    title = figure._suptitle.get_window_extent()  # No public name.
    for ax in figure.axes:
        for item in (ax, ax.get_legend()):
            assert item is None or not title.overlaps(item.get_window_extent())


@pytest.mark.parametrize("study", [size_study(), scheme_study(True), scheme_study(False)])
def test_nothing_is_cut_off_and_no_title_covers_a_legend(study):
    for figure in drawn(study).values():
        assert_nothing_cut_off(figure)
        assert_titles_are_clear(figure)


def test_effects_of_axes_are_drawn_for_balanced_studies_only():
    assert set(drawn(size_study())) == {"axes", "pairs", "differences", "curves", "tradeoffs"}
    assert set(drawn(scheme_study(unbalanced=False))) == {"axes", "pairs", "differences", "curves"}
    one_axis = make_study("width", synthetic_rows({"hidden_size": (50, 100)}, 2, lambda **_: 2.0, 0.01))
    assert set(drawn(one_axis)) == {"axes", "differences", "curves"}
    assert set(drawn(scheme_study(unbalanced=True))) == {"differences", "curves"}


def test_a_value_that_is_far_off_is_named_within_its_panel():
    losses = {0.0: 2.1, 0.001: 2.1, 0.01: 2.11, 0.1: 2.9}
    axes = {"weight_decay": tuple(losses), "hidden_size": (50, 100)}
    rows = synthetic_rows(axes, 3, lambda weight_decay, hidden_size: losses[weight_decay] + 1 / hidden_size, 0.001)
    for ax in drawn(make_study("decay", rows))["axes"].axes:
        low, high = ax.get_xlim()
        named = [text for text in ax.texts if "→" in text.get_text()]
        assert all(low < place < high for place in (*ax.get_xticks(), *(text.get_position()[0] for text in named)))
        assert len(named) == (ax.get_xlabel() == "weight decay")


def interacting_study(**more: tuple) -> Study:
    """Of hidden and block size, which matter only together; the embedding matters by itself."""
    axes = {"embedding_dim": (2, 10), "hidden_size": (50, 100, 200), "block_size": (3, 8)} | more

    def loss(hidden_size, block_size, embedding_dim, **_):
        return 2 + 0.1 * (-1) ** ((hidden_size == 50) + (block_size == 3)) + 0.5 / embedding_dim

    return make_study("grid", synthetic_rows(axes, 2, loss))


def test_pairs_are_drawn_by_strength_and_at_their_means():
    study = interacting_study(batch_size=(32, 64))  # Six pairs, of which three are drawn.
    axes = drawn(study)["pairs"].axes
    assert len(axes) == 3 and axes[0].get_xlabel() == "hidden size"
    assert axes[0].get_legend().get_title().get_text().startswith("block size (")
    lines = [list(line.get_ydata()) for line in axes[0].lines if len(line.get_ydata()) == 3]
    # With 50 units, block 3 has 0.2 more than block 8; with others, 0.2 less. What is best has 0.
    np.testing.assert_allclose(lines, [[0.2, 0, 0], [0, 0.2, 0.2]], atol=1e-12)
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["3", "8"]
    assert [label.get_text() for label in axes[0].get_xticklabels()] == ["50", "100", "200"]


def test_pairs_without_any_difference_are_drawn_too():
    axes = {"hidden_size": (50, 100), "block_size": (3, 8)}
    assert len(drawn(make_study("same", synthetic_rows(axes, 2, lambda **_: 2.0)))["pairs"].axes) == 1


def test_the_forest_shows_differences_paired_by_seed():
    study = scheme_study(unbalanced=True)
    ax = drawn(study)["differences"].axes[0]
    means = [float(line.get_xdata()[0]) for line in ax.lines if len(line.get_xdata()) == 1 and line.get_marker() != "|"]
    best = {row["seed"]: row["dev_loss"] for row in study.cells[0].rows}
    expected = [np.mean([row["dev_loss"] - best[row["seed"]] for row in cell.rows]) for cell in study.cells]
    np.testing.assert_allclose(means, expected)
    assert [label.get_text() for label in ax.get_yticklabels()] == [study.label(cell) for cell in study.cells]


def curve_names(study: Study) -> tuple[list[str], str]:
    """The legend of the learning curves, and the figure's title."""
    figure = drawn(study)["curves"]
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()], figure._suptitle.get_text()


def test_at_most_seven_curves_with_what_they_share_said_once():
    names, title = curve_names(size_study())
    assert len(names) == 7 and all(len(name.split(", ")) == 3 for name in names)
    assert "the 7 best of 24" in title and "all with hidden_size 200" in title


def test_a_curve_beyond_the_range_is_named_in_words_and_not_in_the_legend():
    losses = {50: 2.0, 100: 2.01, 200: 2.02, 300: 9.5}
    names, title = curve_names(
        make_study("size", synthetic_rows({"hidden_size": tuple(losses)}, 3, lambda hidden_size: losses[hidden_size]))
    )
    assert names == ["50", "100", "200"] and "above this range: hidden_size 300 (9.50)" in title


@pytest.mark.parametrize("kind", ["differences", "curves"])
def test_long_labels_leave_the_axes_their_width(kind):
    axes = {
        "hidden_size": (600, 1000),
        "optimizer": ("adam", "sgd"),
        "weight_decay": (1e-4, 0.05),
        "dropout": (0.0, 0.1),
    }
    study = make_study("best", synthetic_rows(axes | {"embedding_dim": (10, 24)}, 3, lambda **_: 2.0, 0.1))
    figure = drawn(study)[kind]
    figure.canvas.draw()
    assert any("\n" in text.get_text() for text in texts(figure))
    assert figure.axes[0].get_position().width > 0.5


def test_two_seeds_have_no_interval_among_curves():
    rows = synthetic_rows({"hidden_size": (50, 100)}, 2, lambda **_: 2.0, 0.1)
    assert "mean of 2 seeds, too few for an interval" in curve_names(make_study("size", rows))[1]


def test_a_scheme_has_one_colour_in_all_figures_of_a_study():
    figures = drawn(scheme_study(unbalanced=True))
    handles, labels = figures["curves"].axes[0].get_legend_handles_labels()
    curves = {label: line.get_color() for label, line in zip(labels, handles, strict=True)}
    ax = figures["differences"].axes[0]
    points = [line for line in ax.lines if len(line.get_xdata()) == 1 and line.get_marker() != "|"]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert {name: point.get_color() for name, point in zip(names, points, strict=True)} == curves


@pytest.mark.filterwarnings("ignore:Glyph")  # Which scripts can be drawn is the font's affair.
@pytest.mark.parametrize("name", [r"$\badcmd$ ]]>", "<script>alert(1)</script>", "עברית \u202e אבג", "a" * 300])
def test_any_name_can_be_drawn(name, tmp_path):
    rows = synthetic_rows({"hidden_size": (50, 100)}, 2, lambda hidden_size: 2.0 + 1 / hidden_size)
    for kind, figure in drawn(make_study(name, rows)).items():
        path = tmp_path / f"{file_stems([name])[0]}_{kind}.png"
        figure.savefig(path)
        assert path.stat().st_size > 5_000


def test_tokens_may_hold_dollar_signs(tmp_path):
    vocabulary = Vocabulary((".", "$", "$x$", "\\", "_{"))
    row = synthetic_rows({"embedding_dim": (2,)}, 1, lambda **_: 2.0)[0]
    with plt.rc_context(STYLE):
        figure = plot_embedding(np.arange(10.0).reshape(5, 2), row, vocabulary)
        figure.savefig(tmp_path / "embedding.png")
    assert_nothing_cut_off(figure)
    assert {"$", "$x$", "\\"} <= {text.get_text() for text in texts(figure)}


@pytest.mark.parametrize(("tokens", "marked"), [(tuple(".abeiou"), True), ((".", "a", "dog", "saw", "you"), False)])
def test_vowels_are_marked_among_letters_alone_and_no_label_covers_another(tokens, marked):
    row = synthetic_rows({"embedding_dim": (2,)}, 1, lambda **_: 2.0)[0]
    with plt.rc_context(STYLE):
        figure = plot_embedding(np.arange(2.0 * len(tokens)).reshape(-1, 2) / 100, row, Vocabulary(tokens))
    assert ("vowels" in figure._suptitle.get_text()) == marked
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_settings_of_every_kind_have_words():
    settings = asdict(RunConfig(optimizer="adam", batch_norm=True, learning_rate=0.001))
    assert describe(settings, AXES).startswith("kaiming_tanh, hidden_size 200")
    some = ("optimizer", "batch_norm", "learning_rate", "direct")
    assert describe(settings, some) == "adam, batch_norm, learning_rate 0.001"
    assert describe(settings | {"batch_norm": False}, ("batch_norm",)) == "no batch_norm"
    assert describe(settings, ("n_steps",)) == "n_steps 20,000"
