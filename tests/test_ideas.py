"""A user's own file of ideas: what it adds, what is refused, and that an edited file makes other runs."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from mlp_lm import RunConfig, load_ideas, train
from mlp_lm.config import BUILT_IN
from mlp_lm.ideas import loaded_ideas

ONE_OF_EACH = """
from dataclasses import replace
import optax
from mlp_lm import ACTIVATIONS, OPTIMIZERS, SCHEDULES, SCHEMES

SCHEMES["snug"] = replace(SCHEMES["fan_in"], summary="a smaller output", source="mine", output=lambda i, o: 0.01)
ACTIVATIONS["cube"] = lambda z: z**3 / 10
SCHEDULES["linear"] = lambda step, n_steps: 1 - step / n_steps
OPTIMIZERS["signum"] = lambda rate, numbers: optax.sign_sgd(rate)
"""
OWN = {"init": "snug", "activation": "cube", "schedule": "linear", "optimizer": "signum"}


@pytest.fixture
def file(tmp_path, tables):
    return tmp_path / "my_ideas.py"


def test_a_file_adds_one_of_each_and_marks_the_runs_that_use_it(file):
    file.write_text(ONE_OF_EACH)
    ideas = load_ideas(file)
    assert ideas is loaded_ideas()
    assert ideas.names == {field: frozenset({name}) for field, name in OWN.items()}
    assert ideas.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    for field, name in OWN.items():
        own = RunConfig(**{field: name})
        assert ideas.mark(own) == replace(own, ideas_hash=ideas.sha256)
        assert ideas.mark(own).run_id != own.run_id
    assert ideas.mark(RunConfig()) == RunConfig()
    assert not (file.parent / "__pycache__").exists()


def test_a_run_of_own_entries_trains_as_what_they_are(file, few_dataset):
    file.write_text(ONE_OF_EACH)
    load_ideas(file)
    shape = {"hidden_size": 20, "embedding_dim": 3, "n_steps": 20, "n_evaluations": 2}
    own = train(RunConfig(**OWN, **shape, learning_rate=1e-3), few_dataset)
    assert np.isfinite(own.dev_loss).all() and own.histories[0].dev_loss[-1] < own.histories[0].dev_loss[0]
    # The same again, built in but for the schedule: a sign's step is as long as its rate.
    twin = {**OWN, "optimizer": "sign_sgd"}
    built_in = train(RunConfig(**twin, **shape, learning_rate=1e-3), few_dataset)
    np.testing.assert_allclose(own.dev_loss, built_in.dev_loss, rtol=1e-5)


def test_loading_the_same_file_again_changes_nothing(file, tables):
    file.write_text(ONE_OF_EACH)
    ideas, entry = load_ideas(file), tables["activation"]["cube"]
    assert load_ideas(str(file)) is ideas
    assert tables["activation"]["cube"] is entry


def test_an_edited_file_makes_other_runs_and_leaves_the_rest(file):
    file.write_text(ONE_OF_EACH)
    before = load_ideas(file)
    marked = before.mark(RunConfig(init="snug")).run_id
    file.write_text(ONE_OF_EACH + "# A word more.\n")
    after = load_ideas(file)
    assert after.mark(RunConfig(init="snug")).run_id != marked
    assert after.mark(RunConfig()).run_id == RunConfig().run_id == before.mark(RunConfig()).run_id
    assert after.names == before.names


def test_an_edited_function_is_compiled_anew(file, few_dataset):
    config = {"activation": "own", "hidden_size": 20, "embedding_dim": 3, "n_steps": 5, "n_evaluations": 1}
    losses = []
    for formula in ("z / 10", "z"):
        file.write_text(f"from mlp_lm import ACTIVATIONS\nACTIVATIONS['own'] = lambda z: {formula}\n")
        load_ideas(file)
        trained = train(RunConfig(**config), few_dataset)
        losses.append((float(trained.dev_loss[0]), float(trained.test_loss()[0])))
    scaled, plain = losses
    assert abs(scaled[0] - plain[0]) > 1e-3
    assert abs(scaled[1] - plain[1]) > 1e-3


def test_another_file_takes_the_place_of_the_first(file, tables):
    file.write_text(ONE_OF_EACH)
    load_ideas(file)
    other = file.with_name("others.py")
    other.write_text("from mlp_lm import ACTIVATIONS\nACTIVATIONS['square'] = lambda z: z * z\n")
    ideas = load_ideas(other)
    assert loaded_ideas() is ideas
    assert ideas.names["activation"] == {"square"} and not ideas.names["init"]
    assert tables["activation"].keys() - BUILT_IN["activation"] == {"square"}
    assert RunConfig(activation="square").activation == "square"
    for field, name in OWN.items():
        with pytest.raises(ValueError, match=f"unknown {field} '{name}'"):
            RunConfig(**{field: name})


TABLE_IMPORT = "from mlp_lm import ACTIVATIONS, OPTIMIZERS, SCHEDULES, SCHEMES\n"
REFUSED = {
    "raises": ("1 / 0", "cannot be imported (ZeroDivisionError: division by zero)"),
    "raises several lines": ("raise RuntimeError('one\\ntwo')", "cannot be imported (RuntimeError: one)"),
    "bad syntax": ("def f(:", "cannot be imported (SyntaxError: "),
    "lacks a module": ("import a_module_of_nobody", "cannot be imported (ModuleNotFoundError: "),
    "half-way": (TABLE_IMPORT + "SCHEMES['mine'] = SCHEMES['normal']\n1 / 0", "ZeroDivisionError"),
    "a scheme's name that exists": (
        TABLE_IMPORT + "SCHEMES['normal'] = SCHEMES['fan_in']",
        "the scheme 'normal' exists already; give it another name",
    ),
    "an optimiser's name that exists": (
        TABLE_IMPORT + "OPTIMIZERS['adam'] = lambda rate, numbers: None",
        "the optimiser 'adam' exists already",
    ),
    "removes one": (TABLE_IMPORT + "del SCHEDULES['cosine']", "the schedule 'cosine' was removed; ideas only add"),
    "a scheme that is none": (
        TABLE_IMPORT + "SCHEMES['mine'] = lambda key: 0",
        "the scheme 'mine' is no Scheme; make it from one",
    ),
    "an activation that is none": (TABLE_IMPORT + "ACTIVATIONS['mine'] = 3", "the activation 'mine' is no function"),
    "a schedule that is none": (TABLE_IMPORT + "SCHEDULES['mine'] = 'fast'", "the schedule 'mine' is no function"),
    "an optimiser that is none": (TABLE_IMPORT + "OPTIMIZERS['mine'] = None", "the optimiser 'mine' is no function"),
    "a name of two words": (
        TABLE_IMPORT + "ACTIVATIONS['two words'] = abs",
        "the activation 'two words' needs a name of letters, digits and underscores",
    ),
    "no name": (TABLE_IMPORT + "ACTIVATIONS[''] = abs", "the activation '' needs a name"),
    "a number for a name": (TABLE_IMPORT + "ACTIVATIONS[3] = abs", "the activation 3 needs a name"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_file_of_ideas_is_refused_in_one_line_and_leaves_no_trace(file, tables, content, message):
    before = {field: dict(table) for field, table in tables.items()}
    file.write_text(content + "\n")
    with pytest.raises(ValueError) as error:
        load_ideas(file)
    assert str(error.value).startswith(f"{file}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert tables == before
    assert all(list(tables[field]) == list(before[field]) for field in before)
    assert loaded_ideas() is None


def test_a_missing_file_is_refused_in_one_line(file):
    with pytest.raises(
        ValueError, match=f"^{file}: cannot be read \\(No such file or directory\\); give a Python file"
    ):
        load_ideas(file)


def test_an_entry_may_be_a_dataclass_of_a_file_with_postponed_annotations(file):
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom mlp_lm import SCHEDULES\n"
    text += "@dataclass\nclass Linear:\n    low: float\n    def __call__(self, step, n_steps):\n"
    file.write_text(text + "        return 1 - (1 - self.low) * step / n_steps\nSCHEDULES['linear'] = Linear(0.1)\n")
    assert load_ideas(file).names["schedule"] == {"linear"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("ideas.txt", "", "no Python file"), ("ideas.py", "import sys; sys.exit(0)", "SystemExit")],
)
def test_what_is_no_module_is_refused_in_one_line(tmp_path, tables, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_ideas(tmp_path / name)
    assert "\n" not in str(error.value)
