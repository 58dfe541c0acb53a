"""How progress reaches people: plain lines without a terminal, a live view on one."""

import io
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from orchestrator.plan.plan import load_plan
from orchestrator.sweep.events import Event
from orchestrator.sweep.watch.display import PlainLines, open_display
from orchestrator.sweep.watch.progress import SweepView

ROOT = Path(__file__).parents[2]

# A live view of a run that never ends, as a program of its own.
ENDLESS = """
import sys, time
from orchestrator.sweep.watch.display import open_display
from orchestrator.sweep.events import Event
from orchestrator.plan.plan import load_plan
from orchestrator.sweep.watch.progress import SweepView
plan = load_plan("table2", scale="demo", methods="scratch_adm", targets="ph2")
with open_display(SweepView(plan, {}), sys.argv[1]) as tell:
    tell(Event(kind="started", run=plan.runs[0], time=time.time(), attempt=1))
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def plan():
    return load_plan("table2", scale="smoke", methods="hybrid_ft", targets="ph2")


@pytest.fixture
def view(plan):
    return SweepView(plan, {run.key: 60.0 for run in plan.runs}, started=0.0)


def told(view, *events):
    lines = []
    plain = PlainLines(view, lines.append)
    for kind, run, details in events:
        plain.take(Event(kind=kind, run=run, time=0.0, **details))
    plain.finish()
    return [line.split(" ", 1)[1] for line in lines]  # Without the time of day.


def test_each_change_of_state_is_one_line(view, plan):
    pretraining, seed_0 = plan.runs[:2]
    metrics = {"test_jaccard": 87.25}
    assert told(
        view,
        ("started", pretraining, {"attempt": 1}),
        ("progress", pretraining, {"attempt": 1, "fraction": 0.5}),
        ("retrying", pretraining, {"attempt": 1, "message": "worker lost: killed\nby the kernel"}),
        ("started", pretraining, {"attempt": 2}),
        ("finished", pretraining, {"attempt": 2, "seconds": 61.24}),
        ("finished", seed_0, {"attempt": 1, "seconds": 4.0, "metrics": metrics}),
    ) == [
        "0/4 started  pretrain hybrid isic2018-like",
        "0/4 retrying pretrain hybrid isic2018-like  worker lost: killed by the kernel",
        "0/4 started  pretrain hybrid isic2018-like  attempt 2",
        "1/4 finished pretrain hybrid isic2018-like  61.2 s",
        "2/4 finished hybrid_ft ph2-like seed 0  87.2 %  4.0 s",
    ]


def test_runs_found_finished_are_told_of_together(view, plan):
    *before, last = plan.runs
    found = told(view, *(("reused", run, {}) for run in before), ("started", last, {"attempt": 1}))
    assert found == [
        "3/4 reused   3 runs that were finished before",
        "3/4 started  hybrid_ft ph2-like seed 2",
    ]


def test_a_message_cannot_command_the_terminal(view, plan):
    (line,) = told(view, ("failed", plan.runs[0], {"message": "bad\x1b[2J\r\nnews"}))
    assert line == "0/4 failed   pretrain hybrid isic2018-like  bad [2J news"


def test_a_sign_of_life_says_what_runs_and_how_long_it_will_take(view, plan):
    lines = []
    plain = PlainLines(view, lines.append)
    plain.sign_of_life(0.0)
    plain.take(Event(kind="started", run=plan.runs[0], time=0.0, attempt=1))
    plain.take(Event(kind="progress", run=plan.runs[0], time=30.0, attempt=1, fraction=0.5))
    plain.sign_of_life(36.0)
    assert lines[0].endswith("0/4 waiting  for workers, 0 CPU-hours so far")
    # Half of 60 s and three times 60 s on one worker; 36 s are a hundredth of an hour.
    running = (
        "0/4 running  pretrain hybrid isic2018-like 50%; about 3.5 min left, 0.01 CPU-hours so far"
    )
    assert lines[-1].endswith(running)


def test_without_a_terminal_there_is_no_escape_sequence(view, plan):
    stream = io.StringIO()
    with open_display(view, "auto", stream=stream) as tell:
        tell(Event(kind="started", run=plan.runs[0], time=0.0, attempt=1))
    assert stream.getvalue().endswith("0/4 started  pretrain hybrid isic2018-like\n")
    assert not {"\x1b", "\r"} & set(stream.getvalue())


def test_no_progress_prints_nothing_and_still_counts(view, plan):
    stream = io.StringIO()
    with open_display(view, "none", stream=stream) as tell:
        tell(Event(kind="started", run=plan.runs[0], time=0.0, attempt=1))
    assert stream.getvalue() == ""
    assert view.counts["running"] == 1


@pytest.mark.parametrize("kind", ["plain", "live"])
def test_a_reader_that_goes_away_stops_nothing(view, plan, kind):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as stream:
        with open_display(view, kind, stream=stream) as tell:
            for run in plan.runs:
                tell(Event(kind="failed", run=run, time=0.0, message="x" * 100))
        assert view.counts["failed"] == 4
        # What could not be written is dropped here, not in the destructor of the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)


def on_a_terminal(kind, *, term="xterm-256color"):
    """Start the endless sweep on a terminal of its own; return the process and its screen."""
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, kind],
        stderr=terminal,
        cwd=ROOT,
        env=os.environ | {"TERM": term, "COLUMNS": "80", "LINES": "24"},
    )
    os.close(terminal)
    return process, screen


def read_until(screen, wanted):
    found = b""
    deadline = time.monotonic() + 30
    while wanted not in found:
        assert time.monotonic() < deadline, found
        found += os.read(screen, 65536)
    return found


def read_all(screen):
    found = b""
    while True:
        try:
            chunk = os.read(screen, 65536)
        except OSError:  # How Linux says that the other end is closed.
            return found
        if not chunk:
            return found
        found += chunk


def test_the_cursor_comes_back_when_a_live_view_is_interrupted():
    process, screen = on_a_terminal("auto")
    try:
        started = read_until(screen, b"scratch_adm ph2-like seed 0")
        assert b"\x1b[?25l" in started
        process.send_signal(signal.SIGINT)
        assert b"\x1b[?25h" in read_all(screen)
    finally:
        process.kill()
        process.wait()
        os.close(screen)


def test_what_is_said_meanwhile_stands_above_the_live_view(view, plan):
    stream = io.StringIO()
    with open_display(view, "live", stream=stream) as tell:
        tell(Event(kind="started", run=plan.runs[0], time=0.0, attempt=1))
        typer.echo("stopping: what runs writes a checkpoint first", err=True)
    shown = stream.getvalue()
    said = shown.index("stopping: what runs writes a checkpoint first")
    # The view is drawn again below it, and nothing after that goes up beyond it.
    assert "Table 2" in shown[said:]


def test_a_dumb_terminal_gets_plain_lines():
    process, screen = on_a_terminal("auto", term="dumb")
    try:
        assert b"\x1b" not in read_until(screen, b"scratch_adm ph2-like seed 0")
    finally:
        process.kill()
        process.wait()
        os.close(screen)
