"""A sweep as it fills on a terminal: the table, the pretrainings, what runs now, the whole.

    hybrid_ft          ●●○ 87.3   ●◐○ 84.1   ○○○   ...    one mark per seed, and the running mean

A pure function of a `SweepView`, a moment and the size of the terminal. Every part is a list of
lines of known height, so that the view never grows beyond the terminal, which would garble it:
what there is no room for is said in fewer words (mean and marks, marks alone, counts), and parts
are folded into one line before any is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from rich.text import Text

from orchestrator.sweep.watch.progress import RunView, State, SweepView
from orchestrator.wording import clock, cut, duration, shortened

PRETRAINING = "pretraining"
WIDE = 120  # Columns from which table and pretrainings stand side by side.
GAP = 3  # Columns between the two.
NARROWEST_RIGHT, WIDEST_RIGHT = 38, 76
LONGEST_BAR = 60
LEAST_FACTS = 13  # Columns of how far a run is and since when.
LEAST_BELOW = 3

Lines = list[Text]


@dataclass(frozen=True)
class Glyphs:
    """The marks of a view, for terminals that know Unicode and those that do not."""

    marks: dict[State, str]
    full: str
    empty: str
    dot: str
    plus_minus: str


UNICODE = Glyphs(
    {
        "finished": "●",
        "running": "◐",
        "waiting": "○",
        "retrying": "↻",
        "failed": "✗",
        "blocked": "–",
    },
    full="━",
    empty="─",
    dot=" · ",
    plus_minus="±",
)
ASCII = Glyphs(
    {
        "finished": "#",
        "running": "~",
        "waiting": ".",
        "retrying": "r",
        "failed": "x",
        "blocked": "-",
    },
    full="=",
    empty="-",
    dot=", ",
    plus_minus="+-",
)
STYLES: dict[State, str] = {
    "finished": "green",
    "running": "bold cyan",
    "waiting": "dim",
    "retrying": "yellow",
    "failed": "bold red",
    "blocked": "yellow",
}


def render(
    view: SweepView, *, now: float, width: int, height: int, glyphs: Glyphs = UNICODE
) -> Text:
    """Return the view as at most `height` lines of at most `width` columns."""
    draw = _Drawing(view, now, width, glyphs)
    overall = draw.overall()
    room = height - len(overall) - 1
    middle = draw.side_by_side(room) if width >= WIDE else draw.stacked(room)
    lines = [draw.title(), *middle, *overall][: max(height, 1)]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n", no_wrap=True).join(lines)


class _Drawing:
    """One picture of a sweep."""

    def __init__(self, view: SweepView, now: float, width: int, glyphs: Glyphs) -> None:
        self._view, self._now, self._width, self._glyphs = view, now, width, glyphs

    def title(self) -> Text:
        plan = self._view.plan
        text = Text(f"{plan.title}{self._glyphs.dot}{plan.scale}", style="bold")
        if plan.generated:
            text.append(f"{self._glyphs.dot}GENERATED DATA", style="bold yellow")
        return text

    def side_by_side(self, room: int) -> Lines:
        """Return the table on the left, pretrainings and what runs on the right."""
        left = self.table(self._width - NARROWEST_RIGHT - GAP)
        left_width = max(line.cell_len for line in left)
        right_width = min(self._width - left_width - GAP, WIDEST_RIGHT)
        right = self.pretrainings(right_width)
        if room < len(right) + 4:
            right = self._folded_pretrainings()
        if len(left) < room:
            left, right = [Text(), *left], [Text(), *right]
        if len(left) + 1 < room:
            left += self._legend(left_width)
        below = self._below(right_width, room - max(len(left), len(right)))
        if not below:
            right = self._limited([*right, Text(), *self.running(right_width)], room)
        rows = max(len(left), len(right))
        if rows > room:
            return self.stacked(room)
        blank = [Text()] * rows
        beside = [
            _padded(a, left_width + GAP) + b
            for a, b in zip((left + blank)[:rows], (right + blank)[:rows], strict=True)
        ]
        return [*beside, *below, *([Text()] if rows + len(below) < room else [])]

    def _below(self, right_width: int, room: int) -> Lines:
        """Return what runs across the whole width, where beside the table labels would be cut.

        None where they would not, or where there is no room for it.
        """
        longest = max((len(view.run.label) for view in self._view.running), default=0)
        if longest + LEAST_FACTS <= right_width or room < LEAST_BELOW:
            return []
        width = min(self._width, WIDEST_RIGHT)
        return [Text(), *self._limited(self.running(width), room - 1)]

    def stacked(self, room: int) -> Lines:
        """Return all parts below one another, folded until they fit."""
        table = self.table(self._width)
        pretrainings = self.pretrainings(self._width)
        if len(table) + len(pretrainings) + 1 > room:
            pretrainings = self._folded_pretrainings()
        if len(table) + len(pretrainings) + 1 > room:
            table = self._folded_table()
        parts = [table, pretrainings]
        used = sum(map(len, parts))
        parts.append(self._limited(self.running(self._width), room - used))
        lines = [line for part in parts for line in part]
        spare = room - len(lines)
        if spare >= len(parts):
            lines = [line for part in parts if part for line in (Text(), *part)]
        return lines[: max(room, 0)]

    def table(self, width: int) -> Lines:
        """Return one line per method and one column per target."""
        plan = self._view.plan
        names = max(map(len, plan.methods))
        gap = 2 if width >= 60 else 1
        each = max((width - names) // len(plan.targets) - gap, 1)
        form = self._form(each)
        cells = {(m, t): form(self._view.cell(m, t)) for m in plan.methods for t in plan.targets}
        shown = [plan.named[target].shown for target in plan.targets]
        widest = max([*(cell.cell_len for cell in cells.values()), *map(len, shown)])
        column = min(each, max(widest, 8))
        header = Text(" " * names, style="bold")
        for target in shown:
            header.append(" " * gap + cut(target, column).ljust(column))
        lines = [header]
        for method in plan.methods:
            line = Text(method.ljust(names))
            for target in plan.targets:
                line.append(" " * gap).append(_padded(cells[method, target], column))
            lines.append(line)
        return lines

    def pretrainings(self, width: int) -> Lines:
        """Return one line per pretraining task and one column per source."""
        views = self._view.pretrainings
        if not views:
            return []
        if all(view.state == "finished" for view in views):
            return self._folded_pretrainings()
        sources = list(dict.fromkeys(str(view.run.source) for view in views))
        cells = {(_task(view), str(view.run.source)): view for view in views}
        tasks = list(dict.fromkeys(task for task, _ in cells))
        names = min(max(map(len, (*tasks, PRETRAINING))), max(width // 2, 8))
        column = max(min((width - names) // len(sources) - 1, 18), 1)
        header = Text(PRETRAINING.ljust(names)[:names], style="bold")
        shown = [cut(self._view.plan.named[source].shown, column) for source in sources]
        header.append("".join(f" {source:<{column}}" for source in shown))
        lines = [header]
        for task in tasks:
            line = Text(task[:names].ljust(names))
            for source in sources:
                view = cells.get((task, source))
                mark = self._with_fraction(view, column) if view else Text()
                line.append(" ").append(_padded(mark, column))
            lines.append(line)
        return lines

    def running(self, width: int) -> Lines:
        """Return what runs now: how far it is, how long already, at which attempt."""
        views = self._view.running
        label_width = max((len(view.run.label) for view in views), default=0)
        label_width = min(label_width, max(width - LEAST_FACTS, 8))
        lines = []
        for view in views:
            facts = f"{view.fraction:5.0%} {clock(self._now - view.started):>6}"
            if view.attempt > 1:
                facts += f" {self._glyphs.marks['retrying']}{view.attempt}"
            bar = min(width - label_width - len(facts) - 2, 30)
            line = Text(shortened(view.run.label, label_width).ljust(label_width))
            if bar >= 4:
                line.append(" ").append(self._bar(view.fraction, bar))
            lines.append(line.append(facts, style="cyan"))
        return lines

    def overall(self) -> Lines:
        """Return the bar over all runs, and the counts, times and costs below it."""
        view, counts = self._view, self._view.counts
        planned, done = len(view.runs), counts["finished"]
        left = view.seconds_left()
        facts = [
            *(["workers are starting"] if view.starting else []),
            *(f"{count} {what}" for what, count in (("reused", view.reused),) if count),
            *(
                f"{counts[s]} {s}"
                for s in ("running", "retrying", "failed", "blocked")
                if counts[s]
            ),
            f"{clock(view.elapsed(self._now))} elapsed",
            *([f"about {duration(left)} left"] if left is not None and done < planned else []),
            f"{view.cost_hours(self._now):.3g} {view.cost_unit}",
        ]
        head = f" {done}/{planned}  {done / planned:.0%}"
        bar = self._bar(done / planned, max(min(self._width - len(head), LONGEST_BAR), 1))
        return [bar.append(head, style="bold"), *self._wrapped(facts)]

    def _legend(self, width: int) -> Lines:
        marks = self._glyphs.marks.items()
        legend = Text("  ".join(f"{mark} {state}" for state, mark in marks), style="dim")
        return [Text(), legend] if legend.cell_len <= width else []

    def _folded_pretrainings(self) -> Lines:
        views = self._view.pretrainings
        return [self._folded(PRETRAINING, views)] if views else []

    def _folded_table(self) -> Lines:
        views = [view for view in self._view.runs.values() if not view.run.pretraining]
        return [self._folded("fine-tuning", views)]

    def _folded(self, name: str, views: Sequence[RunView]) -> Text:
        done = sum(view.state == "finished" for view in views)
        return Text(f"{name} {done} of {len(views)}", style="green" if done == len(views) else "")

    def _limited(self, lines: Lines, room: int) -> Lines:
        if len(lines) <= room:
            return lines
        if room < 1:
            return []
        return [*lines[: room - 1], Text(f"and {len(lines) - room + 1} more running", style="dim")]

    def _form(self, width: int) -> Callable[[Sequence[RunView]], Text]:
        """Return the most telling way to write a cell that fits into `width` columns."""
        seeds = len(self._view.plan.seeds)
        spread = len(f" 100.0 {self._glyphs.plus_minus} 10.0") if seeds > 1 else len(" 100.0")
        if seeds + spread <= width:
            return lambda views: self._marks(views) + self._mean(views, spread=True)
        if seeds + len(" 100.0") <= width:
            return lambda views: self._marks(views) + self._mean(views)
        if len(f"{seeds}/{seeds} 100.0") <= width:
            return lambda views: self._count(views) + self._mean(views)
        return self._marks if seeds <= width else self._count

    def _marks(self, views: Sequence[RunView]) -> Text:
        marks = self._glyphs.marks
        return Text.assemble(*((marks[view.state], STYLES[view.state]) for view in views))

    def _count(self, views: Sequence[RunView]) -> Text:
        done = sum(view.state == "finished" for view in views)
        return Text(f"{done}/{len(views)}", style="green" if done == len(views) else "")

    def _mean(self, views: Sequence[RunView], *, spread: bool = False) -> Text:
        """Return the mean over the seeds that are done; bold once all are."""
        scores = [view.score for view in views if view.score is not None]
        if not scores:
            return Text()
        text = f" {fmean(scores):.1f}"
        if spread and len(scores) > 1:
            text += f" {self._glyphs.plus_minus} {stdev(scores):.1f}"
        return Text(text, style="bold" if len(scores) == len(views) else "dim")

    def _with_fraction(self, view: RunView, width: int) -> Text:
        text = Text(self._glyphs.marks[view.state], style=STYLES[view.state])
        if view.state == "running" and width >= len("x 100%"):
            text.append(f" {view.fraction:.0%}")
        return text

    def _bar(self, fraction: float, width: int) -> Text:
        full = round(min(max(fraction, 0.0), 1.0) * width)
        return Text.assemble(
            (self._glyphs.full * full, "green"), (self._glyphs.empty * (width - full), "dim")
        )

    def _wrapped(self, facts: Sequence[str]) -> Lines:
        """Return the facts on as few lines as they need, none of them broken."""
        rows = [facts[0]]
        for fact in facts[1:]:
            longer = f"{rows[-1]}{self._glyphs.dot}{fact}"
            if len(longer) <= self._width:
                rows[-1] = longer
            else:
                rows.append(fact)
        return [Text(row) for row in rows]


def _task(view: RunView) -> str:
    """Return what a pretraining is called beside its source: `hybrid`, `supervised deeplab`."""
    label = view.run.label.removeprefix("pretrain ")
    return label.replace(f" {view.run.spec.dataset.name}", "", 1)


def _padded(text: Text, width: int) -> Text:
    """Return the text as exactly `width` columns."""
    padded = text.copy()
    padded.truncate(width, overflow="ellipsis", pad=True)
    return padded
