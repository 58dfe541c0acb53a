"""The spaces: what they draw, how they are bounded, and a space of one's own."""

import math

import optuna
import pytest

from search_spaces import SpaceError, all_spaces, load_space

SPACES = all_spaces()


def drawn(space, count=200):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return [space.suggest(study.ask(), space) for _ in range(count)]


@pytest.mark.parametrize("name", ["lambda", "lr", "joint"])
def test_every_draw_sets_every_parameter_within_its_bounds(name):
    space = SPACES[name]
    for values in drawn(space):
        assert values.keys() == space.settings.keys() == space.reference.keys()
        for parameter, (low, high) in space.bounds.items():
            assert low <= values[parameter] <= high


def test_lambda_is_drawn_by_orders_of_magnitude():
    below = sum(values["lambda"] < 1e-3 for values in drawn(SPACES["lambda"], 1000))
    assert 330 < below < 470  # Two of five decades.


def test_the_grid_and_the_reference_are_the_papers():
    assert SPACES["lambda"].grid == {"lambda": (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)}
    assert SPACES["lambda"].reference == {"lambda": 1e-4}
    assert SPACES["lr"].reference == {"lr": 2e-4}


def test_only_spaces_with_a_pretraining_setting_pretrain():
    assert [name for name, space in SPACES.items() if not space.pretrains] == ["lr"]


def test_bounds_can_be_narrowed_and_take_the_grid_with_them():
    space = SPACES["lambda"].within(1e-3, None)
    assert space.bounds == {"lambda": (1e-3, 1.0)}
    assert space.grid == {"lambda": (1.0, 0.1, 0.01, 1e-3)}
    assert space.fingerprint != SPACES["lambda"].fingerprint


@pytest.mark.parametrize(
    ("low", "high"),
    [(1e-2, 1e-3), (0.0, 1.0), (-1.0, None), (1e-2, 1e-2), (None, math.inf), (math.nan, None)],
)
def test_bounds_upside_down_not_positive_or_endless_are_refused(low, high):
    with pytest.raises(SpaceError, match="must ascend from above 0"):
        SPACES["lambda"].within(low, high)


OWN = """
from search_spaces import SearchSpace


def suggest(trial, space):
    return {"dropout": trial.suggest_float("dropout", *space.bounds["dropout"])}


SPACE = SearchSpace(
    name="dropout",
    title="dropout",
    why="because",
    settings={"dropout": "networks.adm.dropout"},
    suggest=suggest,
    bounds={"dropout": (0.001, 0.3)},
    reference={"dropout": 0.1},
)
"""


def test_a_space_of_ones_own_is_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    space = load_space(tmp_path / "mine.py")
    assert space.name == "dropout"
    assert all(0.001 <= values["dropout"] <= 0.3 for values in drawn(space, 20))
    assert space.pretrains  # Another network is pretrained anew.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "defines no SPACE"),
        ("1 / 0", "ZeroDivisionError"),
        (None, "no space file"),
        (OWN.replace('space.bounds["dropout"]', 'space.bounds["drop"]'), "`suggest` failed, KeyE"),
        (OWN.replace('{"dropout": trial', '{"drop": trial'), "gives values of drop, `settings` n"),
        (
            OWN.replace('{"dropout": 0.1}', "{}"),
            "`reference` gives nothing, `settings` names drop",
        ),
        (OWN.replace("0.1}", "float('nan')}"), "not a finite number: dropout nan"),
        (
            OWN.replace("0.1},", "0.1}, grid={'dropout': [1e400]},"),
            "not a finite number: dropout inf",
        ),
    ],
)
def test_space_files_that_cannot_be_used_say_why(tmp_path, text, message):
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    with pytest.raises(SpaceError, match=message):
        load_space(tmp_path / "mine.py")
