"""Whoever ends a sweep by a signal, and however many of its processes he sends it to: it is put away.

What runs has written a checkpoint, the table is there as far as it goes, the exit status is that of the
signal, and nothing is left behind. The real programs and the kernel send the signals.
"""

import os
import pty
import signal
import sqlite3
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.command_line import PATIENCE_S, command
from tests.end_to_end.processes import descendants_of, gone, wait_until

pytestmark = pytest.mark.slow

ENDLESS = ("--set", "pretraining.updates=400000")
SWEEP = ("run", "table2", "--scale", "smoke", "--methods", "scratch_adm,hybrid_ft")
SWEEP += ("--targets", "ph2", "--seeds", "0", "--workers", 1, *ENDLESS)
SEARCH = ("tune", "lambda", "--scale", "smoke", "--source", "isic2018", "--targets", "ph2")
SEARCH += ("--trials", 1, "--seeds", 1, "--scheduler", "none", "--workers", 1, *ENDLESS)


def with_timeout(arguments, **how):
    """Start a command below `timeout`, which is made to think that the time is over."""
    driver = subprocess.Popen(["timeout", "1000", *arguments], start_new_session=True, **how)
    return driver, lambda: driver.send_signal(signal.SIGALRM)


def in_a_pipeline(arguments, **how):
    """Ctrl-C: the terminal sends it to the whole process group."""
    driver = subprocess.Popen(arguments, start_new_session=True, **how)
    return driver, lambda: os.killpg(driver.pid, signal.SIGINT)


def as_a_service(arguments, **how):
    """systemd and Slurm send SIGTERM to every process there is."""
    driver = subprocess.Popen(arguments, start_new_session=True, **how)

    def stop():
        for process in [*descendants_of(driver), driver.pid]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)

    return driver, stop


def on_a_terminal(arguments, **how):
    """The window is closed in which the sweep runs, and shows its live view."""
    ours, theirs = pty.openpty()
    driver = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    return driver, lambda: os.close(ours)


def running(home):
    """Return how many runs of the database are said to be running."""
    with sqlite3.connect(f"file:{home / 'mlflow.db'}?mode=ro", uri=True) as database:
        return database.execute("SELECT COUNT(*) FROM runs WHERE status = 'RUNNING'").fetchone()[0]


def checkpoints(home):
    """Return the newest update of which there is a checkpoint."""
    found = [int("".join(filter(str.isdigit, p.stem)) or 0) for p in home.glob("checkpoints/*/*")]
    return max(found, default=0)


def folders():
    return set(Path("/tmp").glob("hdsweep-*"))


def folders_of(driver):
    """Return the folders of Ray that the processes of a driver name; other tests have theirs."""
    told = b" ".join(commands_of(descendants_of(driver)))
    return {each for each in folders() if str(each).encode() in told}


def commands_of(processes):
    for each in processes:
        with suppress(OSError):
            yield Path(f"/proc/{getattr(each, 'pid', each)}/cmdline").read_bytes()


@pytest.mark.parametrize(
    ("asked", "ways"),
    [
        (
            SWEEP,
            [
                (with_timeout, 124),  # Which tells of its own; 143 is what it was told.
                (in_a_pipeline, 130),
                (as_a_service, 143),
                (on_a_terminal, 129),
            ],
        ),
        (SEARCH, [(as_a_service, 143)]),
    ],
    ids=["run", "tune"],
)
def test_a_signal_in_any_way_leaves_checkpoints_a_table_and_nothing_else(asked, ways, tmp_path):
    before, reached, logs = folders(), 0, set()
    for way, status in ways:
        driver, stop = way(command(*asked, "--home", tmp_path), stdout=subprocess.DEVNULL)
        (session,) = wait_until(lambda d=driver: folders_of(d) - before, driver)
        # A worker begins the run: its log is there.
        wait_until(lambda last=logs: set(tmp_path.glob("logs/*.log")) - last, driver)
        logs = set(tmp_path.glob("logs/*.log"))
        processes = descendants_of(driver)
        assert len(processes) > 3
        stop()
        assert driver.wait(timeout=PATIENCE_S) == status, way.__name__
        assert not gone(processes), way.__name__
        assert not session.exists(), way.__name__
        assert running(tmp_path) == 0, way.__name__
        assert checkpoints(tmp_path) > reached, way.__name__
        reached = checkpoints(tmp_path)
    if asked is SWEEP:
        assert list(tmp_path.glob("artifacts/*/artifacts/table/table.json"))
