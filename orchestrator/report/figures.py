"""The figures of a report, with matplotlib: every seed a dot, every interval drawn.

Colour says how a network was pretrained, in every figure the same; the hues are Okabe and Ito's,
which the colour-blind tell apart, and no figure needs colour to be read.
"""

import math
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.report.cells import GENERATED, Table
from orchestrator.report.evidence import Done, Evidence
from orchestrator.report.statistics import Estimate, Ranks, estimate, rank
from trainables.methods import Method, all_methods

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, PALE = "#222222", "#bbbbbb"
EDGE: Mapping[str, Any] = {"mec": INK, "mew": 0.6}
"""Of dots: some of the hues are too light to be told from paper by themselves."""
COLOURS = {
    None: "#808080",
    "diffusion": "#0072b2",
    "supervised": "#009e73",
    "hybrid": "#d55e00",
    "imagenet": "#e69f00",
    "both": "#cc79a7",
}
OWN = "#56b4e9"  # Of a pretraining of the user's own.
ROW_INCHES = 0.34
MOST_LINES = 10  # Runs of one method in one panel of curves.
SHAPES = ("o", "s", "^", "D", "v")
BASELINES = ("scratch_adm", "supervised_ft")


def draw(table: Table, evidence: Evidence, name: str) -> "Figure | None":
    """Return one of `FIGURES`; None without values for it."""
    figure = FIGURES[name](table, evidence)
    if figure is not None and table.generated:
        figure.suptitle(GENERATED, x=0.995, ha="right", fontsize=8, color=INK)
    return figure


def ranks_of(table: Table) -> Ranks | None:
    """Return the ranks of the methods over the targets of a table."""
    columns = [
        {method: table.scored[method, column.target] for method in table.methods}
        for column in table.columns
    ]
    return rank(columns, seed=0) if columns else None


def gains_of(table: Table, baseline: str) -> dict[tuple[str, str], Estimate | None]:
    """Return how far each method is ahead of one of them, by method and target.

    Empty if there is nothing to be ahead of.
    """
    if baseline not in table.methods or not any(c.values for c in table.row(baseline)):
        return {}
    return {
        (method, column.target): estimate(
            table.scored[method, column.target].minus(table.scored[baseline, column.target])
        )
        for method in table.methods
        if method != baseline
        for column in table.columns
    }


def seeds(table: Table) -> "Figure | None":
    """Return the score of every seed, a panel per target, a short line at the mean."""
    if not any(cell.values for cell in table.cells.values()):
        return None
    figure, panels = _panels(len(table.columns), rows=len(table.methods))
    for axes, column in zip(panels, table.columns, strict=True):
        for y, method in enumerate(table.methods):
            cell = table.cells[method, column.target]
            colour = colour_of(all_methods()[method])
            values = list(cell.values.values())
            axes.plot(values, [y] * len(values), "o", color=colour, markersize=5, **EDGE)
            if cell.mean is not None:
                axes.plot([cell.mean] * 2, [y - 0.32, y + 0.32], color=INK, linewidth=1.2)
            if cell.comparable and cell.published and cell.published.mean is not None:
                axes.plot(cell.published.mean, y, "D", mfc="none", mec=INK, markersize=6)
        _named(axes, "%", column.title)
    _methods_on_y(panels[0], table, table.methods)
    return figure


def gains(table: Table, baseline: str) -> "Figure | None":
    """Return how far each method is ahead of one of them, with 95 % intervals."""
    ahead = gains_of(table, baseline)
    if not ahead:
        return None
    others = [method for method in table.methods if method != baseline]
    figure, panels = _panels(len(table.columns), rows=len(others))
    for axes, column in zip(panels, table.columns, strict=True):
        axes.axvline(0, color=PALE, linewidth=1)
        for y, method in enumerate(others):
            found = ahead[method, column.target]
            if found is not None:
                _interval(axes, y, found, colour_of(all_methods()[method]))
        _named(axes, "points", column.title)
    _methods_on_y(panels[0], table, others)
    return figure


def ranks(table: Table, found: Ranks | None) -> "Figure | None":
    """Return the mean ranks with what resampling makes of them, and the critical difference."""
    if found is None:
        return None
    names = sorted(found.mean, key=lambda name: found.mean[name])
    figure, (axes,) = _panels(1, rows=len(names) + 1, width=7.5)
    for y, name in enumerate(names):
        colour = colour_of(all_methods()[name])
        axes.plot([found.low[name], found.high[name]], [y, y], color=INK, linewidth=1)
        axes.plot(found.mean[name], y, "o", color=colour, markersize=7, **EDGE)
    if found.critical is not None:
        start = found.mean[names[0]]
        end, above = min(start + found.critical, len(names) + 0.5), -0.8
        axes.plot([start, end], [above, above], color=INK, linewidth=1.5, marker="|")
        axes.text(start, above - 0.25, f"critical difference {found.critical:.1f}", color=INK)
    axes.set(xlabel="mean rank over the targets (1 is best)", xlim=(0.5, len(names) + 0.5))
    _methods_on_y(axes, table, names, top=-1.6)
    return figure


def curves(
    table: Table, evidence: Evidence, panel_of: Callable[[Done], str | None], prefix: str
) -> "Figure | None":
    """Return a logged value against updates: a panel per dataset, a line per run."""
    found: dict[str, list[tuple[Done, Sequence[tuple[int, float]]]]] = {}
    lines_of: Counter[tuple[str, str]] = Counter()
    for done in evidence.done.values():
        panel = panel_of(done)
        if panel is None or lines_of[done.run.methods[0], panel] == MOST_LINES:
            continue
        name = next((n for n in done.history if n.startswith(prefix)), None)
        if name is not None:
            found.setdefault(panel, []).append((done, done.history[name]))
            lines_of[done.run.methods[0], panel] += 1
    if not found:
        return None
    figure, panels = _panels(len(found), rows=6, shared=False)
    lines: dict[str, Any] = {}
    for axes, (panel, runs) in zip(panels, found.items(), strict=True):
        for done, points in runs:
            method = all_methods()[done.run.methods[0]]
            label = _label(table, done, method)
            style = {"adm": "-", "deeplab": "--", "segformer": ":"}[method.network]
            colour = colour_of(method)
            thin = 1.4 if done.run.pretraining else 0.9
            # A line needs two points; one is a dot.
            dot = "." if len(points) == 1 else ""
            (lines[label],) = axes.plot(
                *zip(*points, strict=True), style, color=colour, lw=thin, marker=dot
            )
        axes.set(xlabel="updates", title=panel)
        if prefix == "loss":
            axes.set_yscale("log")
    panels[0].set_ylabel("loss" if prefix == "loss" else "validation metric, %")
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def colour_of(method: Method) -> str:
    """Return the colour of how a network was pretrained."""
    pretraining = method.pretraining
    if method.imagenet:
        return COLOURS["both" if pretraining else "imagenet"]
    return COLOURS.get(pretraining, OWN)


def _title(evidence: Evidence, dataset: str | None, wanted: bool = True) -> str | None:
    """Return the title of a panel; None for runs that have none."""
    return evidence.plan.named[dataset].title if wanted and dataset is not None else None


def _gains_over(baseline: str, table: Table, _: Evidence) -> "Figure | None":
    return gains(table, baseline)


FIGURES: Mapping[str, Callable[[Table, Evidence], "Figure | None"]] = {
    "seeds": lambda table, _: seeds(table),
    **{f"gain_over_{each}": partial(_gains_over, each) for each in BASELINES},
    "ranks": lambda table, _: ranks(table, ranks_of(table)),
    "pretraining_curves": lambda table, evidence: curves(
        table,
        evidence,
        lambda done: _title(evidence, done.run.source, done.run.pretraining),
        "loss",
    ),
    "fine_tuning_curves": lambda table, evidence: curves(
        table, evidence, lambda done: _title(evidence, done.run.target), "val_"
    ),
}


def save(table: Table, evidence: Evidence, folder: Path, *, processes: int = 1) -> dict[str, str]:
    """Write each figure that there are values for as SVG and as PNG; return the SVGs by name.

    Args:
        processes: how many draw. More than one are forks of this one, which must not have begun
            threads that hold locks, as Ray's do.
    """
    for kind in ("agg", "svg"):  # Before forking: once for all of them.
        import_module(f"matplotlib.backends.backend_{kind}")
    folder.mkdir(parents=True, exist_ok=True)
    processes = min(processes, len(FIGURES))
    shares = [list(FIGURES)[first::processes] for first in range(processes)]
    fork = multiprocessing.get_context("fork")
    others = [
        fork.Process(target=_save_in_fork, args=(table, evidence, folder, names))
        for names in shares[1:]
    ]
    for other in others:
        other.start()
    _save(table, evidence, folder, shares[0])
    for other, names in zip(others, shares[1:], strict=True):
        other.join()
        if other.exitcode:
            _save(table, evidence, folder, names)  # Fails here as it did there, and is told.
    paths = {name: folder / f"{name}.svg" for name in FIGURES}
    return {
        name: path.read_text(encoding="utf-8") for name, path in paths.items() if path.is_file()
    }


def _save_in_fork(*arguments: Any) -> None:
    try:
        _save(*arguments)
    except Exception:  # noqa: BLE001 - whatever it is, the parent meets it too
        os._exit(1)


def _save(table: Table, evidence: Evidence, folder: Path, names: Sequence[str]) -> None:
    for name in names:
        vector, pixels = folder / f"{name}.svg", folder / f"{name}.png"
        figure = draw(table, evidence, name)
        if figure is None:
            vector.unlink(missing_ok=True)
            pixels.unlink(missing_ok=True)
        else:
            vector.write_text(svg(figure, name), encoding="utf-8")
            figure.savefig(pixels, dpi=150)


def svg(figure: "Figure", name: str) -> str:
    """Return a figure as SVG, the same bytes for the same figure; text stays text."""
    import io

    import matplotlib as mpl

    # Laid out once: each saving would do it anew, which takes longer than the drawing. None at all
    # afterwards: under the engine called "none", each saving draws everything once for nothing.
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue().decode()


def _panels(
    count: int, *, rows: int, width: float = 11.0, shared: bool = True
) -> tuple["Figure", list[Any]]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "font.size": 9,
        "axes.titlesize": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
    }
    settings |= {"xtick.color": INK, "ytick.color": INK, "axes.edgecolor": PALE}
    with mpl.rc_context(settings):
        height = max(2.2, 0.9 + ROW_INCHES * rows)
        figure = Figure(figsize=(width, height), layout="constrained")
        panels = figure.subplots(1, count, sharey=shared, squeeze=False)[0]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color=PALE, linewidth=0.4)
        axes.set_axisbelow(True)
    return figure, list(panels)


def _methods_on_y(axes: Any, table: Table, methods: Sequence[str], *, top: float = -0.6) -> None:
    axes.set_yticks(range(len(methods)), [table.label(method) for method in methods])
    axes.set_ylim(len(methods) - 0.4, top)


def _interval(axes: Any, y: float, found: Estimate, colour: str) -> None:
    low, high = found.low, found.high
    if low is not None and high is not None and math.isfinite(high - low):
        axes.plot([low, high], [y, y], color=INK, linewidth=1)
    axes.plot(found.value, y, "o", color=colour, markersize=5, **EDGE)


def _label(table: Table, done: Done, method: Method) -> str:
    if done.run.pretraining:
        return f"{method.pretraining}, {method.network}"
    return table.label(method.name)


def _named(axes: Any, unit: str, title: str) -> None:
    """Name a panel and its axis; nothing to read a scale for has none."""
    axes.set(xlabel=unit, title=_wrapped(title))
    if not any(line.get_marker() == "o" and len(line.get_xdata()) for line in axes.get_lines()):
        axes.set(xlabel="", xticks=[])


def _wrapped(title: str) -> str:
    return title.replace(" (", "\n(")
