"""A live view in a real terminal whose size changes: one whole picture, nothing broken left over."""

import shutil
import subprocess
import sys
import time
from uuid import uuid4

import pytest

pytestmark = pytest.mark.slow
VIEW = """
import sys, time
from orchestrator.sweep.watch.display import open_display
from orchestrator.sweep.events import Event
from orchestrator.plan.plan import load_plan
from orchestrator.sweep.watch.progress import SweepView
plan = load_plan("table2", scale="smoke")
with open_display(SweepView(plan, {}), "live") as on_event:
    for run in plan.runs[:6]:
        on_event(Event(kind="started", run=run, time=time.time(), attempt=1))
    time.sleep(60)
"""


@pytest.fixture
def terminal():
    """Return a function that calls tmux with a session of its own, in which a view is drawn."""
    if shutil.which("tmux") is None:
        pytest.skip("no tmux: `apt-get install tmux`")
    name = f"hdsweep-{uuid4().hex}"

    def tmux(*arguments):
        done = subprocess.run(
            ["tmux", "-L", name, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout

    tmux(
        "-f", "/dev/null", "new-session", "-d", "-x", "140", "-y", "40", sys.executable, "-c", VIEW
    )
    tmux("set-option", "-g", "window-size", "manual")
    yield tmux
    tmux("kill-server")


def screen(tmux, wanted):
    """Return what is on the screen once a condition holds, or at last."""
    for _ in range(150):
        lines = [line.rstrip() for line in tmux("capture-pane", "-p", "-t", "0").splitlines()]
        if wanted(lines):
            break
        time.sleep(0.2)
    return lines


def pictures(lines):
    """Return how often a picture begins, and how often it ends, on the screen."""
    return (
        sum("GENERATED DATA" in line for line in lines),
        sum("/180" in line for line in lines),
    )


@pytest.mark.parametrize("size", [(80, 24), (100, 50), (200, 30), (60, 16)])
def test_after_a_change_of_size_there_is_one_whole_picture(terminal, size):
    width, height = map(str, size)
    screen(terminal, lambda lines: pictures(lines) == (1, 1))
    terminal("resize-window", "-x", width, "-y", height)
    time.sleep(1)  # Four pictures are drawn in that time.
    lines = screen(terminal, lambda lines: pictures(lines) == (1, 1))
    assert pictures(lines) == (1, 1), "\n".join(lines)
    assert max(map(len, lines)) <= size[0]
    first = next(i for i, line in enumerate(lines) if "GENERATED DATA" in line)
    assert first == 0, "something is left above the picture"
