"""From finished runs to the cells of a table: a pure function of the plan and the store.

The table tells the truth: every value by its seed, the sample standard deviation, how many seeds
there are of how many, why one is missing, and whether the numbers may be held against the paper.
"""

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from statistics import fmean, stdev

from orchestrator.plan.comparable import OTHER_WEIGHTS
from orchestrator.plan.plan import Cell as Place
from orchestrator.plan.plan import Plan
from orchestrator.report.images import ImageCounts
from orchestrator.report.made import Made
from orchestrator.report.statistics import Highest, Scored, scored, select
from orchestrator.report.statistics import highest as find_highest
from orchestrator.wording import in_short, one_line
from trainables.config import Metric
from trainables.methods import all_methods

PUBLISHED = Path(__file__).with_name("published.toml")
GENERATED = "generated data"
RANDOM_BACKBONE = "random instead of ImageNet weights: not an ImageNet row"
BEST_RULE = (
    "bold: best of its column, where it is told from every other method that has all its seeds: "
    "paired differences over seeds and test images, Student's t, Holm-adjusted, 5 %"
)
MOST_MISSING = 6  # Seeds that are named of those missing for one and the same reason.
REASONS_SHOWN = 4  # Reasons for not being comparable; the others are counted.


@dataclass(frozen=True)
class Published:
    """A cell of the paper, in percent; None is unknown or was not published."""

    mean: float | None
    std: float | None


@dataclass(frozen=True)
class Column:
    """A target dataset."""

    target: str
    title: str
    metric: Metric
    generated: bool

    @property
    def remark(self) -> str:
        """What its numbers must not be held against without knowing; empty if there is nothing."""
        if self.target != "ffhq34" or self.generated:
            return ""
        return (
            "tested on 10 of the 20 images that are not trained on, as the paper says; LEDM's official "
            "code scores all 20, and validates on none"
        )


@dataclass(frozen=True)
class Cell:
    """One method on one target, over its seeds; values in percent."""

    method: str
    target: str
    dataset: str
    metric: Metric
    values: Mapping[int, float]
    """By seed."""
    missing: Mapping[int, str]
    """Why a seed has no value."""
    keys: Mapping[int, str]
    """The run that each seed's value is of, or would be."""
    published: Published | None
    """None for what the paper does not have."""
    comparable: bool
    generated: bool
    random_backbone: bool
    in_study_of_paper: bool = True
    """Whether the study reproduces a paper, so that there is something to hold the cell against."""
    other_weights: str | None = None
    """SHA-256 of the ImageNet weights it starts from, if they are not the published ones."""
    best: bool = False

    @property
    def n(self) -> int:
        """How many seeds have a value."""
        return len(self.values)

    @property
    def n_planned(self) -> int:
        """How many seeds were asked for."""
        return len(self.values) + len(self.missing)

    @cached_property
    def mean(self) -> float | None:
        """Mean over the seeds there are."""
        return fmean(self.values.values()) if self.values else None

    @cached_property
    def std(self) -> float | None:
        """Sample standard deviation (ddof = 1); None below two seeds."""
        return stdev(self.values.values()) if self.n > 1 else None

    def __str__(self) -> str:
        spread = f" ± {self.std:.1f}" if self.std is not None else ""
        count = f" [{self.n}/{self.n_planned}]" if self.missing else ""
        return f"{self.mean:.1f}{spread}{count}" if self.mean is not None else f"–{count}"


@dataclass(frozen=True)
class Table:
    """A table with everything that has to be said beside it."""

    title: str
    columns: tuple[Column, ...]
    methods: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]
    notes: tuple[str, ...]
    """What must stand below it in every format."""
    comparable: bool
    paper: str | None = None
    """The paper that the study reproduces; without one nothing is held against anything."""
    highest: Mapping[str, Highest] = field(default_factory=dict)
    """The highest method of each target all of whose methods have all their seeds."""
    scored: Mapping[tuple[str, str], Scored] = field(default_factory=dict, repr=False)
    """What statistics are made of, by method and target."""
    made: Made | None = None
    """Sweep, command, date and settings that made it; None for a table that was made of parts."""

    @property
    def generated(self) -> bool:
        """Whether any column is of images that a program made."""
        return any(column.generated for column in self.columns)

    def label(self, method: str) -> str:
        """Return how a method is printed here: a row without its ImageNet weights is marked."""
        return f"{method_title(method)}{self.mark(method)}"

    def mark(self, method: str) -> str:
        """Return the sign, explained in the notes, of a row without the published weights."""
        row = self.row(method)
        if any(cell.random_backbone for cell in row):
            return " †"
        return " ‡" if any(cell.other_weights for cell in row) else ""

    def row(self, method: str) -> tuple[Cell, ...]:
        """Return the cells of a method, by column."""
        return tuple(self.cells[method, column.target] for column in self.columns)


def make_table(
    plan: Plan,
    finished: Mapping[str, Mapping[str, float]],
    failures: Mapping[str, str] | None = None,
    images: Mapping[str, ImageCounts] | None = None,
    made: Made | None = None,
) -> Table:
    """Return the table of a plan as far as its runs are finished.

    Args:
        finished: final metrics by run key; the number is `test_<metric>`, in percent.
        failures: cause by run key.
        images: counts of the test images by run key, as far as runs left them.
        made: what is to be said of how it was made.
    """
    failures, images = failures or {}, images or {}
    cells = {
        (method, target): _cell(plan, method, target, finished, failures)
        for method in plan.methods
        for target in plan.targets
    }
    statistics: dict[tuple[str, str], Scored] = {}
    tops: dict[str, Highest] = {}
    for target in plan.targets:
        column = {m: cells[m, target] for m in plan.methods}
        found = _scored_column(plan, column, images)
        statistics |= {(method, target): each for method, each in found.items()}
        top = None if any(cell.missing for cell in column.values()) else find_highest(found)
        if top is not None:
            tops[target] = top
            cells[top.method, target] = replace(cells[top.method, target], best=top.not_told == ())
    columns = tuple(
        Column(
            target=target,
            title=plan.named[target].title,
            metric=plan.named[target].ref.metric,
            generated=plan.named[target].ref.generated,
        )
        for target in plan.targets
    )
    title = f"{plan.title}, scale {plan.scale}{plan.identity.varied}"
    return Table(
        title=f"{title} ({GENERATED})" if plan.generated else title,
        columns=columns,
        methods=plan.methods,
        cells=cells,
        notes=tuple(_notes(plan, columns, cells)),
        comparable=plan.comparable,
        paper=plan.paper,
        highest=tops,
        scored=statistics,
        made=made,
    )


@cache
def published() -> Mapping[tuple[str, str], Published]:
    """Return the published cells by method and target."""
    rows = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))
    return {
        (method, target): Published(*[*values, None, None][:2])
        for method, row in rows.items()
        for target, values in row.items()
    }


def method_title(name: str) -> str:
    """Return how a method is printed."""
    return all_methods()[name].title


def _cell(
    plan: Plan,
    method: str,
    target: str,
    finished: Mapping[str, Mapping[str, float]],
    failures: Mapping[str, str],
) -> Cell:
    keys = {seed: plan.table[Place(method, target, seed)] for seed in plan.seeds}
    spec = plan.by_key[next(iter(keys.values()))].spec
    number = f"test_{spec.dataset.metric}"
    values = {s: finished[key][number] for s, key in keys.items() if key in finished}
    missing = {
        seed: _why_missing(plan, key, failures)
        for seed, key in keys.items()
        if key not in finished
    }
    return Cell(
        method=method,
        target=target,
        dataset=spec.dataset.name,
        metric=spec.dataset.metric,
        values=values,
        missing=missing,
        keys=keys,
        published=published().get((method, target)) if plan.paper else None,
        comparable=plan.comparable and method not in plan.other_weights,
        generated=spec.dataset.generated,
        random_backbone=spec.without_imagenet and all_methods()[method].imagenet,
        in_study_of_paper=plan.paper is not None,
        other_weights=plan.other_weights.get(method),
    )


def _why_missing(plan: Plan, key: str, failures: Mapping[str, str]) -> str:
    if key in failures:
        return f"failed: {one_line(failures[key])}"
    needs = plan.by_key[key].needs
    if needs is not None and needs in failures:
        return f"blocked: {plan.by_key[needs].label} failed"
    return "not run"


def _scored_column(
    plan: Plan, column: Mapping[str, Cell], images: Mapping[str, ImageCounts]
) -> dict[str, Scored]:
    """Return what the statistics of a target are made of: all methods on the same selections."""
    counts = {
        method: {
            seed: images[key]
            for seed in cell.values
            if (key := plan.table[Place(method, cell.target, seed)]) in images
        }
        for method, cell in column.items()
    }
    parts = {each.ids for by_seed in counts.values() for each in by_seed.values()}
    # Drawn from the images themselves, so that the same images give the same selections anywhere.
    selections = {ids: select(len(ids), seed=_seed_of(ids)) for ids in parts}
    return {
        method: scored(cell.values, counts[method], cell.metric, selections)
        for method, cell in column.items()
    }


def _seed_of(ids: tuple[str, ...]) -> int:
    return int.from_bytes(hashlib.sha256("\n".join(ids).encode()).digest()[:8])


def _notes(
    plan: Plan, columns: tuple[Column, ...], cells: Mapping[tuple[str, str], Cell]
) -> list[str]:
    metrics = {"jaccard": "Jaccard index", "miou_ledm": "mean IoU over classes"}
    what = ", ".join(f"{c.title} {metrics[c.metric]}" for c in columns)
    notes = [f"percent on the test part, mean ± sample standard deviation over seeds: {what}"]
    notes += [f"{column.title}: {column.remark}" for column in columns if column.remark]
    if any(column.generated for column in columns):
        notes.append(f"{GENERATED}: made by a program, says nothing about real images")
    if any(cell.random_backbone for cell in cells.values()):
        notes.append(f"† {RANDOM_BACKBONE}")
    for method, sha256 in plan.other_weights.items():
        what = OTHER_WEIGHTS if plan.paper else OTHER_WEIGHTS.partition(",")[0]
        notes.append(f"‡ {method} starts from {what}: sha256 {sha256[:16]}")
    notes += plan.tuned
    if any(cell.best for cell in cells.values()):
        notes.append(BEST_RULE)
    if plan.paper and not plan.comparable:
        shown = [*plan.not_comparable[:REASONS_SHOWN]]
        more = len(plan.not_comparable) - len(shown)
        reasons = "; ".join([*shown, f"and {more} more"] if more > 0 else shown)
        notes.append(f"not comparable with the paper: {reasons}")
    return notes + _missing_notes(cells.values())


def _missing_notes(cells: Iterable[Cell]) -> list[str]:
    """Return what is missing, a line for each reason; the records have the reason of each seed."""
    missing: dict[str, list[str]] = {}
    for cell in cells:
        for seed, why in cell.missing.items():
            missing.setdefault(why, []).append(f"{cell.method} {cell.dataset} seed {seed}")
    return [f"missing: {in_short(names, most=MOST_MISSING)}: {w}" for w, names in missing.items()]
