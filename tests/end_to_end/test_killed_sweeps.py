"""A sweep whose driver or workers are killed ends with the table of one left alone.

The command line as a user runs it, real training at smoke scale, a few rows and one target of each
kind. SIGKILL, so that nothing can be tidied up.
"""

import json
import os
import signal
import subprocess
from contextlib import suppress

import pytest

from tests.command_line import PATIENCE_S, command, hdsweep, outcome
from tests.end_to_end.processes import descendants_of, gone, wait_until, workers_of

pytestmark = pytest.mark.slow

# Four pretrainings and eight fine-tunings; both adaptations; two kinds of target.
SELECTION = ("--scale", "smoke", "--methods", "hybrid_ft,diffusion_ledm")
SELECTION += ("--targets", "ph2,montgomery", "--seeds", "0,1")
RUNS = 12


def completed(verb, home, *arguments, exit_code=0):
    """Run to the end and return the JSON of the last line of standard output."""
    told = (*SELECTION, "--json", *arguments)
    out, _ = hdsweep(verb, "table2", *told, home=home, exit_code=exit_code)
    return json.loads(out.splitlines()[-1])


def table(home):
    """Return the report, without what may differ between two sweeps: when and how it was made."""
    return outcome(hdsweep("report", "table2", *SELECTION, "--json", home=home)[0])


def finished(home):
    """Return how many runs have a published result."""
    return len(list(home.glob("artifacts/*/artifacts/result.json")))


def start(home):
    return subprocess.Popen(
        command("run", "table2", *SELECTION, "--home", home, "--json"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def undisturbed_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("undisturbed")
    summary = completed("run", home)
    assert (summary["planned"], summary["finished"], summary["failed"]) == (RUNS, RUNS, 0)
    return home


@pytest.fixture(scope="module")
def undisturbed(undisturbed_home):
    return table(undisturbed_home)


def test_the_driver_killed_at_three_moments(undisturbed, tmp_path):
    for moment in (1, 4, 8):
        driver = start(tmp_path)
        wait_until(lambda wanted=moment: finished(tmp_path) >= wanted, driver)
        # The driver alone: Ray's own processes must notice and go by themselves.
        processes = descendants_of(driver)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        assert not gone(processes)
        before = finished(tmp_path)
        assert moment <= before < RUNS
    summary = completed("run", tmp_path)
    assert summary["reused"] + summary["finished"] == RUNS
    assert summary["reused"] >= before
    assert table(tmp_path) == undisturbed


def test_workers_killed_at_three_moments(undisturbed, tmp_path):
    driver = start(tmp_path)
    for moment in (0, 3, 7):
        worker = wait_until(
            lambda wanted=moment: finished(tmp_path) >= wanted and workers_of(driver), driver
        )[0]
        with suppress(ProcessLookupError):  # Ray may have ended it just now: lost all the same.
            os.kill(worker, signal.SIGKILL)
    _, errors = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 0, errors.decode()[-3000:]
    # The first had its run in hand; those killed later may have been between two.
    assert "retrying" in errors.decode()
    assert table(tmp_path) == undisturbed


def test_running_again_trains_nothing(undisturbed, undisturbed_home):
    summary = completed("run", undisturbed_home)
    assert (summary["reused"], summary["finished"]) == (RUNS, 0)
    assert table(undisturbed_home) == undisturbed


def test_interrupted_once_and_run_again(undisturbed, tmp_path):
    driver = start(tmp_path)
    wait_until(lambda: finished(tmp_path) >= 2, driver)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 130, errors.decode()[-3000:]
    assert "the same command goes on" in errors.decode()
    assert finished(tmp_path) < RUNS
    completed("run", tmp_path)
    assert table(tmp_path) == undisturbed


def test_interrupted_twice_stops_at_once_and_run_again(undisturbed, tmp_path):
    driver = start(tmp_path)
    wait_until(lambda: finished(tmp_path) >= 2, driver)
    driver.send_signal(signal.SIGINT)
    while b"Ctrl-C again stops at once" not in (line := driver.stderr.readline()):
        assert line, "the sweep ended without a word"
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 130, errors.decode()[-3000:]
    assert "the same command goes on" in errors.decode()
    completed("run", tmp_path)
    assert table(tmp_path) == undisturbed
