"""What a sweep may spend: by hand on a clock of our own, and a real sweep that is out of budget."""

import subprocess

import pytest

from orchestrator.sweep.budget import Budget
from tests.command_line import command
from tests.documents import document

HOUR = 3600.0


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def budget(hours, clock):
    share = {"long": 1.0, "half": 0.5, "other": 1.0}
    expected = {"long": 2 * HOUR, "half": HOUR, "other": HOUR}
    return Budget(hours, share=share, expected=expected, clock=clock)


def test_hours_count_by_the_share_of_a_gpu():
    clock = Clock()
    spent = budget(10, clock)
    spent.start("long")
    spent.start("half")
    clock.now = HOUR
    assert spent.spent == pytest.approx(1.5)
    spent.stop("half")
    clock.now = 3 * HOUR
    assert spent.spent == pytest.approx(3.5)


def test_what_is_under_way_is_reserved():
    clock = Clock()
    spent = budget(3.0, clock)
    assert spent.admits("long")
    spent.start("long")
    # Two hours are promised to it: of three, one is left, which `other` takes whole.
    assert spent.admits("other")
    spent.start("other")
    assert not spent.admits("half")
    # Finished in half the time that was forecast, it leaves room.
    clock.now = 0.5 * HOUR
    spent.stop("other")
    assert spent.spent == pytest.approx(1.0)
    assert spent.admits("half")


def test_a_run_that_takes_longer_than_forecast_eats_into_the_rest():
    clock = Clock()
    spent = budget(3.0, clock)
    spent.start("long")
    clock.now = 2.6 * HOUR
    assert not spent.admits("half")


@pytest.fixture
def run(tmp_path):
    def hdsweep(*arguments):
        few = ("--scale", "smoke", "--methods", "scratch_adm", "--targets", "ph2")
        return subprocess.run(
            command("run", "table2", *few, "--home", tmp_path / "home", "--json", *arguments),
            check=False,
            capture_output=True,
            text=True,
            timeout=240,
        )

    return hdsweep


@pytest.mark.slow
def test_a_sweep_out_of_budget_leaves_runs_and_goes_on_with_more(run):
    nothing = run("--max-gpu-hours", "0")
    assert nothing.returncode == 1, nothing.stderr
    summary = document(nothing.stdout)
    assert (summary["finished"], summary["within_budget"]) == (0, False)
    assert "3 runs left; the same command with more goes on" in nothing.stderr
    enough = run("--max-cost", "100", "--price", "2.5")
    assert enough.returncode == 0, enough.stderr
    assert document(enough.stdout)["finished"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-cost", "5"], "--max-cost and --price go together"),
        (["--price", "5"], "--max-cost and --price go together"),
        (["--max-cost", "5", "--price", "0"], "--price 0: must be more than 0"),
    ],
)
def test_half_a_limit_is_wrong_input(run, arguments, said):
    done = run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
