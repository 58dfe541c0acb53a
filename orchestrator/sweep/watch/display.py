"""Showing a sweep to people, on standard error: a live view on a terminal, plain lines elsewhere.

Plain lines carry no escape sequence and no carriage return: one per change of state, and one every
30 seconds that says that the sweep is alive. Whoever reads may go away: the sweep goes on silently.
"""

import contextlib
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TextIO, cast

from rich.console import Console
from rich.live import Live
from rich.text import Text

from orchestrator.sweep.events import Event, OnEvent
from orchestrator.sweep.watch.live_table import ASCII, UNICODE, render
from orchestrator.sweep.watch.progress import SweepView
from orchestrator.wording import duration, in_short, one_line

KINDS = ("auto", "live", "plain", "none")
REFRESHES_PER_SECOND = 4
HEARTBEAT_SECONDS = 30.0
SIZES = ("COLUMNS", "LINES")
CLEAR = "\x1b[H\x1b[J"
MOST_NAMED = 3  # Runs that a sign of life lists.


class Unbreakable(io.TextIOBase):
    """A text stream that falls silent once its reader has gone, instead of raising."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream."""
        return self._stream.encoding or "ascii"


class AboveView(io.TextIOBase):
    """Standard error while a live view is up: whole lines, shown above the view.

    Rich has such a stream, but lets through to the one below, where a library may find a buffer to
    write to: what it says would land inside the view, and be drawn over.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console, self._begun = console, ""

    def write(self, text: str) -> int:
        """Show the lines that are complete, and keep the rest until it is."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._console.print(Text.from_ansi(line))
        return len(text)

    def isatty(self) -> bool:
        """Whether this is a terminal: no longer one to write control sequences to."""
        return False


@contextlib.contextmanager
def open_display(view: SweepView, kind: str, *, stream: TextIO | None = None) -> Iterator[OnEvent]:
    """Show a sweep for as long as it goes on; yields what takes in its events.

    Args:
        kind: one of `KINDS`; `auto` is live on a terminal that can, and plain lines elsewhere.
        stream: standard error by default.
    """
    out = cast(TextIO, Unbreakable(stream or sys.stderr))
    shows = {"live": _live, "plain": _plain, "none": _silent}
    with shows[able_kind(kind, out)](view, out) as on_event:
        yield on_event


def able_kind(kind: str, out: TextIO) -> str:
    """Return what `auto` comes to on a stream; any other kind as it is."""
    if kind != "auto":
        return kind
    able = out.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
    return "live" if able else "plain"


@contextlib.contextmanager
def live_view(draw: Callable[[int, int], Text], out: TextIO) -> Iterator[Console]:
    """Draw a view again and again; yields what prints above it.

    Args:
        draw: from a width and a height that it must not exceed; called from a thread of Rich's.
    """
    # The terminal's own size: variables that were exported once do not follow it.
    environ = {name: value for name, value in os.environ.items() if name not in SIZES}
    console = Console(file=out, force_terminal=True, _environ=environ)
    size = console.size

    def drawn() -> Text:
        nonlocal size
        if console.size != size:
            size = console.size
            # The terminal has wrapped the last picture anew: nobody knows how many lines it takes now.
            out.write(CLEAR)
            live._live_render._shape = None
        return draw(size.width, size.height - 1)  # One line less: the cursor stands on the last.

    live = Live(
        console=console,
        get_renderable=drawn,
        refresh_per_second=REFRESHES_PER_SECOND,
        redirect_stderr=False,
    )
    # However the sweep ends, leaving the block shows the cursor again.
    with live, contextlib.redirect_stderr(AboveView(console)):
        yield console


@contextlib.contextmanager
def _silent(view: SweepView, out: TextIO) -> Iterator[OnEvent]:  # noqa: ARG001
    yield view.take


@contextlib.contextmanager
def _live(view: SweepView, out: TextIO) -> Iterator[OnEvent]:
    glyphs = UNICODE if "utf" in out.encoding.lower() else ASCII

    def draw(width: int, height: int) -> Text:
        # From a thread of Rich's, without a lock: the runs of a view are fixed and only their
        # states change, and a lock could be held when a signal handler says something.
        return render(view, now=time.time(), width=width, height=height, glyphs=glyphs)

    with live_view(draw, out) as console:

        def on_event(event: Event) -> None:
            view.take(event)
            if event.kind in ("failed", "retrying"):
                what = f"{event.run.label}: {one_line(event.message)}"
                console.print(Text.assemble((event.kind, "bold red"), " ", what))

        yield on_event


@contextlib.contextmanager
def _plain(view: SweepView, out: TextIO) -> Iterator[OnEvent]:
    lock, over = threading.Lock(), threading.Event()

    def write(line: str) -> None:
        out.write(f"{line}\n")
        out.flush()

    lines = PlainLines(view, write)
    lines.begin(time.time())

    def on_event(event: Event) -> None:
        with lock:
            lines.take(event)

    def beat() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            with lock:
                lines.sign_of_life(time.time())

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield on_event
    finally:
        over.set()
        thread.join()
        lines.finish()


class PlainLines:
    """Turns events into lines of text.

    Args:
        view: kept up to date.
        write: takes each line, without its end.
    """

    def __init__(self, view: SweepView, write: Callable[[str], None]) -> None:
        self._view, self._write = view, write
        self._reused = 0
        """Runs found finished and not yet told of: they are told of together."""

    def begin(self, now: float) -> None:
        """Write what is being waited for: Ray and its workers take some seconds to start."""
        self._line(now, "starting workers")

    def take(self, event: Event) -> None:
        """Take in an event, and write a line if it changes the state of its run."""
        self._view.take(event)
        if event.kind == "reused":
            self._reused += 1
            return
        self.finish()
        if event.kind != "progress":
            details = self._details(event)
            self._line(event.time, f"{event.kind:<8} {event.run.label}{details}")

    def sign_of_life(self, now: float) -> None:
        """Write a line that says what runs and how long the rest will take."""
        running, left = self._view.running, self._view.seconds_left()
        named = [f"{view.run.label} {view.fraction:.0%}" for view in running]
        rest = f"; about {duration(left)} left" if left else ""
        cost = f"{self._view.cost_hours(now):.3g} {self._view.cost_unit}"
        what = (
            f"running  {in_short(named, most=MOST_NAMED)}" if running else "waiting  for workers"
        )
        self._line(now, f"{what}{rest}, {cost} so far")

    def finish(self) -> None:
        """Write what has been held back."""
        if self._reused:
            self._line(time.time(), f"reused   {self._reused} runs that were finished before")
            self._reused = 0

    def _details(self, event: Event) -> str:
        if event.kind == "finished":
            score = self._view.runs[event.run.key].score
            return (f"  {score:.1f} %" if score is not None else "") + f"  {event.seconds:.1f} s"
        if event.kind == "started":
            return f"  attempt {event.attempt}" if event.attempt > 1 else ""
        return f"  {one_line(event.message)}"

    def _line(self, when: float, text: str) -> None:
        planned, done = len(self._view.runs), self._view.counts["finished"]
        width = len(str(planned))
        self._write(f"{datetime.fromtimestamp(when):%H:%M:%S} {done:>{width}}/{planned} {text}")
