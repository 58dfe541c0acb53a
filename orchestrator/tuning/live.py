"""A search as it goes: how many trials, the best so far, what each rung has seen, what runs now.

    updates  trials  stopped  best
         67       9        6  85.12 %
        200       3        1  86.40 %
        600       2           87.20 %

On a terminal, drawn again and again; elsewhere a line for each trial that moves.
"""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TextIO, cast

from optuna.trial import FrozenTrial, TrialState
from rich.text import Text

from orchestrator.sweep.events import Event, OnEvent
from orchestrator.sweep.watch.display import Unbreakable, able_kind, live_view
from orchestrator.sweep.watch.notify import Watched
from orchestrator.tuning.driver import Notice
from orchestrator.tuning.search import Search
from orchestrator.wording import duration, one_line

TRIAL_ENDS = {
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
ENDS = ("finished", "failed", "retrying")


@dataclass(frozen=True)
class Rung:
    """What a search has seen at one budget."""

    updates: int | None
    """Of the pretraining; None if all trials share one."""
    values: tuple[float, ...]
    """In percent, of the trials that got there."""
    stopped: int
    """How many of these trials went no further."""


class SearchView:
    """The state of a search, fed with the trials as they are stored and the events of their runs."""

    def __init__(
        self, search: Search, trials: Sequence[FrozenTrial], *, started: float | None = None
    ) -> None:
        self.search = search
        self._trials = tuple(trials)
        self._started = time.time() if started is None else started
        self._ended_before = self.ended
        self._running: dict[str, tuple[str, float]] = {}
        """Label and part done of what runs, by key."""

    @property
    def ended(self) -> int:
        """How many trials have come to an end."""
        return sum(trial.state.is_finished() for trial in self._trials)

    @property
    def planned(self) -> int:
        """How many trials there will be: what was asked for, but a grid may have fewer points.

        Those of an earlier session that asked for more are there already.
        """
        asked, space = self.search.trials, self.search.space
        if self.search.sampler == "grid":
            asked = min(asked, prod(len(values) for values in (space.grid or {}).values()))
        return max(asked, len(self._trials))

    @property
    def ends(self) -> Mapping[str, int]:
        """How many trials came to each end."""
        states = Counter(trial.state for trial in self._trials)
        return {name: states[state] for name, state in TRIAL_ENDS.items()}

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The rungs, the shortest first."""
        return tuple(self._rung(number) for number in range(self.search.rungs))

    def take(self, trials: Sequence[FrozenTrial]) -> None:
        """Take in the trials as they are now."""
        self._trials = tuple(trials)

    def take_event(self, event: Event) -> None:
        """Take in what became of a run."""
        running = dict(self._running)  # Another thread may be drawing the old one.
        if event.kind in ("started", "progress"):
            running[event.run.key] = (event.run.label, event.fraction)
        elif event.kind in ENDS:
            running.pop(event.run.key, None)
        self._running = running

    def standing(self, now: float) -> str:
        """Return how far the search is, in a line."""
        parts = [f"{self.ended} of {self.search.trials}"]
        complete = (trial for trial in self._trials if trial.state is TrialState.COMPLETE)
        best = max(complete, key=lambda trial: trial.value or 0.0, default=None)
        if best is not None:
            at = ", ".join(f"{name} {value:.3g}" for name, value in best.params.items())
            parts.append(f"best so far {best.value:.2f} % at {at}")
        left, fresh = self.search.trials - self.ended, self.ended - self._ended_before
        if left > 0 and fresh > 0:
            parts.append(f"about {duration((now - self._started) / fresh * left)} left")
        return ", ".join(parts)

    def lines(self, now: float) -> list[str]:
        """Return what is drawn: standing, rungs, what runs."""
        search = self.search
        running = [f"  {label} {fraction:.0%}" for label, fraction in self._running.values()]
        return [search.title, self.standing(now), "", *map(_row, self._table()), "", *running]

    def _table(self) -> Iterator[tuple[str, ...]]:
        yield "updates", "trials", "stopped", "best"
        for rung in self.rungs:
            yield (
                "" if rung.updates is None else f"{rung.updates}",
                f"{len(rung.values)}",
                f"{rung.stopped or ''}",
                f"{max(rung.values):.2f} %" if rung.values else "",
            )

    def _rung(self, number: int) -> Rung:
        step = self.search.step(number)
        there = [trial for trial in self._trials if step in trial.intermediate_values]
        return Rung(
            updates=self.search.budgets[number] if self.search.budgets else None,
            values=tuple(trial.intermediate_values[step] for trial in there),
            stopped=sum(t.state is TrialState.PRUNED and t.last_step == step for t in there),
        )


def _row(cells: tuple[str, ...]) -> str:
    updates, trials, stopped, best = cells
    return f"  {updates:>7}  {trials:>6}  {stopped:>7}  {best}".rstrip()


def watched_search(view: SearchView) -> Watched:
    """Return what is told of a search: its trials, those of earlier sessions too."""
    search = view.search
    return Watched(
        names={
            "study": search.study.name,
            "scale": search.scale.name,
            "search": search.name,
        },
        title=f"search {search.name} ({search.scale.name})",
        unit="trials",
        count=lambda _: {"planned": view.planned, **view.ends},
    )


@contextlib.contextmanager
def open_search_display(
    view: SearchView,
    trials: Callable[[], Sequence[FrozenTrial]],
    kind: str,
    *,
    stream: TextIO | None = None,
) -> Iterator[tuple[OnEvent, Notice]]:
    """Show a search for as long as it goes on; yields what takes in events, and news of trials.

    Args:
        trials: reads them as they are stored; asked whenever one moves.
        kind: one of `display.KINDS`; `auto` is live on a terminal that can.
        stream: standard error by default.
    """
    out = cast(TextIO, Unbreakable(stream or sys.stderr))
    shown = able_kind(kind, out)

    def telling(write: Callable[[str], None]) -> Notice:
        def notice(line: str) -> None:
            before = view.ended
            view.take(trials())
            ended = f" ({view.standing(time.time())})" if view.ended > before else ""
            write(f"{one_line(line)}{ended}")

        return notice

    def write(line: str) -> None:
        if shown == "plain":
            out.write(f"{line}\n")
            out.flush()

    def draw(width: int, height: int) -> Text:
        lines = [line[:width] for line in view.lines(time.time())]
        return Text("\n".join(lines[:height]), no_wrap=True)

    if shown != "live":
        yield view.take_event, telling(write)
        return
    with live_view(draw, out) as console:
        yield view.take_event, telling(lambda line: console.print(Text(line)))
