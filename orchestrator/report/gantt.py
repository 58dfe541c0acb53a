"""The picture of a simulated sweep: a lane per GPU, time to the right.

Colour says how a network was pretrained, as in every figure of a report; a fine-tuning is paler than
the pretraining that it starts from. Runs that share a GPU share the height of its lane.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.errors import InputError
from orchestrator.plan.cost.simulate import Interval, Simulation
from orchestrator.report.figures import INK, PALE, colour_of, svg
from orchestrator.wording import DAY, HOUR, MINUTE
from trainables.methods import all_methods

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_INCHES, PLOT_INCHES = 11.0, 10.0
NARROW_INCHES = 0.05
LANE_INCHES, THIN_LANES_INCHES = 0.3, 8.0  # Of one lane; of all lanes, where they are too many.
MOST_LABELLED = 64  # GPUs whose lanes are high enough for text.
LETTER_INCHES = 0.075
GAP = 0.08  # Between lanes, in lanes.
PALER = 0.55
UNITS = ((3 * DAY, DAY, "days"), (2 * HOUR, HOUR, "hours"), (0.0, MINUTE, "minutes"))


class _Bar(NamedTuple):
    interval: Interval
    below: float
    """Part of the lane under the bar."""


def write_gantt(simulation: Simulation, file: Path) -> None:
    """Write the picture of a simulation as SVG or PNG, whichever the name of the file says.

    Raises:
        InputError: if the file cannot be written.
    """
    figure = gantt(simulation)
    try:
        if file.suffix == ".svg":
            file.write_text(svg(figure, "gantt"), encoding="utf-8")
        else:
            figure.savefig(file, dpi=150)
    except OSError as error:
        raise InputError(f"{file}: cannot be written: {error.strerror or error}") from error


def gantt(simulation: Simulation) -> "Figure":
    """Return the picture of a simulation, the least possible time as a line."""
    from matplotlib.figure import Figure

    labelled = simulation.gpus <= MOST_LABELLED
    height = simulation.gpus * LANE_INCHES if labelled else THIN_LANES_INCHES
    figure = Figure(figsize=(WIDTH_INCHES, 1.3 + height), layout="constrained")
    axes = figure.subplots()
    _, unit, name = next(each for each in UNITS if simulation.makespan >= each[0])
    end = max(simulation.makespan / unit, 1e-6) * 1.01
    inches_per_unit = PLOT_INCHES / end
    bars = _stacked(simulation.intervals)
    _draw_bars(axes, bars, unit, inches_per_unit)
    axes.axvline(simulation.bound / unit, color=INK, linewidth=1, linestyle=":")
    axes.set_xlim(0, end)
    axes.set_ylim(simulation.gpus - 0.5, -0.5)
    axes.set(xlabel=f"{name}; dotted: the least that any order could take", ylabel="GPU")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    if labelled:
        axes.set_yticks(range(simulation.gpus))
        _label(axes, bars, unit, inches_per_unit)
    _legend(figure, simulation.intervals)
    return figure


def _stacked(intervals: Iterable[Interval]) -> list[_Bar]:
    """Return each interval with its place in the lane, above those that run at the same time."""
    bars: list[_Bar] = []
    running: dict[int, list[_Bar]] = defaultdict(list)
    for each in sorted(intervals, key=lambda each: each.start):
        lane = [bar for bar in running[each.gpu] if bar.interval.end > each.start]
        bar = _Bar(each, _lowest(lane, each.share))
        running[each.gpu] = [*lane, bar]
        bars.append(bar)
    return bars


def _lowest(lane: Sequence[_Bar], share: float) -> float:
    """Return the lowest free place of a lane; the topmost if what is free lies in pieces."""
    below = 0.0
    for bar in sorted(lane, key=lambda bar: bar.below):
        if bar.below - below >= share - 1e-9:
            break
        below = max(below, bar.below + bar.interval.share)
    return min(below, 1 - share)


def _draw_bars(axes: Any, bars: Sequence[_Bar], unit: float, inches_per_unit: float) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    boxes, colours, edges = [], [], []
    for each, below in bars:
        lane_height = 1 - 2 * GAP
        top = each.gpu + 0.5 - GAP - (below + each.share) * lane_height
        width = (each.end - each.start) / unit
        boxes.append(Rectangle((each.start / unit, top), width, each.share * lane_height))
        alpha = 1.0 if each.run.pretraining else PALER
        colour = to_rgba(_colour(each), alpha if each.finished else alpha / 2)
        colours.append(colour)
        # A hairline of its own colour keeps minutes visible on an axis of days.
        edges.append("white" if width * inches_per_unit > NARROW_INCHES else colour)
    axes.add_collection(
        PatchCollection(boxes, facecolors=colours, edgecolors=edges, linewidths=0.4)
    )


def _label(axes: Any, bars: Sequence[_Bar], unit: float, inches_per_unit: float) -> None:
    for each, _ in bars:
        text = each.run.label.removeprefix("pretrain ")
        inches = (each.end - each.start) / unit * inches_per_unit
        if each.share == 1 and len(text) * LETTER_INCHES < inches:
            middle = (each.start + each.end) / 2 / unit
            axes.text(
                middle, each.gpu, text, ha="center", va="center", fontsize=8, color="#ffffff"
            )


def _legend(figure: "Figure", intervals: Iterable[Interval]) -> None:
    from matplotlib.patches import Patch

    found = {}
    for each in intervals:
        method = all_methods()[each.run.methods[0]]
        start = "from random weights" if method.pretraining is None else method.pretraining
        if method.imagenet:
            start = f"ImageNet + {start}" if method.pretraining else "ImageNet"
        pretraining = each.run.pretraining
        name = f"{start}, {'pretraining' if pretraining else 'fine-tuning'}"
        alpha = 1.0 if pretraining else PALER
        found[name] = Patch(color=_colour(each), alpha=alpha, label=name)
    if found:
        handles = [found[name] for name in sorted(found)]
        figure.legend(
            handles=handles, loc="outside upper center", ncols=5, frameon=False, fontsize=8
        )


def _colour(interval: Interval) -> str:
    return colour_of(all_methods()[interval.run.methods[0]])
