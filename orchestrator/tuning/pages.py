"""The answer of a search as people read it: text, Markdown, one HTML file, pictures."""

import base64
import contextlib
import html
import io
import re
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from orchestrator.tuning.answer import Answer, Tried
from orchestrator.tuning.ledger import Ledger, quiet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN, LEAST_MARGIN = 0.1, 0.5  # Above and below a curve: part of its height, percent points.
GENERATED = "Generated data: made by a program, says nothing about real images."
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
)  # Told apart by the colour-blind.


def write_pages(answer: Answer, ledger: Ledger, folder: Path) -> None:
    """Write answer.md, answer.html, curve.png and Optuna's plots."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "answer.md").write_text(markdown(answer), encoding="utf-8")
    pictures = {}
    for name in answer.search.space.settings:
        picture = _png(curve(answer, name))
        pictures[name] = picture
        (folder / f"curve_{name}.png").write_bytes(picture)
    (folder / "answer.html").write_text(_page(answer, pictures), encoding="utf-8")
    _write_optuna_plots(answer, ledger, folder / "optuna")


def markdown(answer: Answer) -> str:
    """Return the answer as Markdown: the finding, then every trial."""
    search = answer.search
    lines = [f"# {search.title}", ""]
    lines += [f"{line}  " for line in findings(answer)]
    lines += ["", *_table(answer), "", *(f"- {note}" for note in notes(answer))]
    return "\n".join(lines) + "\n"


def findings(answer: Answer) -> list[str]:
    """Return what was found, a sentence each."""
    best = answer.best
    if best is None:
        return ["No trial has had its whole budget: nothing can be said yet."]
    spread = f" ± {best.spread:.2f}" if best.spread is not None else ""
    lines = [GENERATED] if answer.search.generated else []
    lines += [f"Best: {_values(best)}, {best.value:.2f}{spread} % on the validation parts."]
    others = [each for each in answer.as_good if each is not best]
    if answer.noise is None:
        lines.append("One tuning seed: how much of a difference is noise is not known.")
    elif others:
        named = "; ".join(
            _values(each) for each in sorted(others, key=lambda e: list(e.values.values()))
        )
        lines.append(f"Not told from it by the seeds (within {answer.noise:.2f} points): {named}.")
    elif len(answer.complete) > 1:
        lines.append(
            "Ahead of all others that had their whole budget by more than the seed noise of "
            f"{answer.noise:.2f} points."
        )
    lines += _of_the_paper(answer, best)
    if len(answer.search.targets) > 1:
        lines += [_of_target(answer, best, target) for target in answer.search.targets]
    flags = " ".join(f"--set {each}" for each in answer.search.settings(dict(best.values)))
    lines.append(
        f"To use it: `{flags}`, or `hdsweep run table2 --from-tune {answer.search.name}`."
    )
    return lines


def _of_the_paper(answer: Answer, best: Tried) -> list[str]:
    """Return how far the paper's own values are behind, as far as that is known."""
    reference, stopped = answer.reference, answer.stopped_reference
    if reference is best:
        return ["That is the paper's own value."]
    if reference is not None:
        behind = (best.value or 0) - (reference.value or 0)
        return [f"The paper's own ({_values(reference)}) is {behind:.2f} points behind."]
    if stopped is not None:
        updates = answer.search.budgets[stopped.rung]
        named = f"The paper's own ({_values(stopped)})"
        return [f"{named} was stopped at {updates} updates: how far behind it ends is not known."]
    return []


def _of_target(answer: Answer, best: Tried, target: str) -> str:
    """Return what a target alone would take, and what it costs it to share one value."""
    own = answer.best_for(target)
    assert own is not None
    costs = f"the shared choice costs it {answer.regret(best, target):.2f} points"
    if answer.reference is not None and answer.reference is not best:
        costs += f", the paper's own {answer.regret(answer.reference, target):.2f}"
    return f"{answer.search.shown[target]} alone would take {_values(own)}; {costs}."


def notes(answer: Answer) -> list[str]:
    """Return how the search was made, a sentence each."""
    search = answer.search
    seeds = ", ".join(map(str, search.seeds))
    how = f"sampler {search.sampler}, scheduler {search.scheduler}, objective {search.objective}"
    spread = "validation metric in percent, mean ± sample standard deviation over the tuning seeds"
    lines = [
        f"{search.space.title}: {search.space.why}",
        f"{how}; scale {search.scale.name}",
        f"{spread} {seeds}, which no table uses; no test image was read",
    ]
    if search.space.pretrains:
        lines.append(
            "the noise is that of the fine-tunings: each value has one pretraining, whose own noise "
            "is not in it; values that hardly differ show how large that is"
        )
    spent, whole = answer.updates
    if whole:
        lines.append(
            f"{spent:,} pretraining updates, {spent / whole:.0%} of what the same trials would have "
            "taken had none been stopped"
        )
    failed = [each for each in answer.tried if each.state == "failed"]
    if failed:
        lines.append(f"{len(failed)} trials failed; the last: {failed[-1].reason}")
    return lines


def curve(answer: Answer, name: str) -> "Figure":
    """Return the metric against one parameter: a line per target, a band over seeds, stopped trials
    as open marks where they were stopped."""
    from matplotlib.figure import Figure

    search = answer.search
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    done = sorted(answer.complete, key=lambda each: each.values[name])
    low, high = _limits(done)
    for colour, target in zip(cycle(COLOURS), answer.search.targets, strict=False):
        x = [each.values[name] for each in done]
        rows = [each.by_target[target] for each in done]
        axes.plot(x, [fmean(row) for row in rows], "o-", color=colour, label=search.shown[target])
        for at, row in zip(x, rows, strict=True):
            axes.plot([at] * len(row), row, ".", color=colour, markersize=4, alpha=0.6)
        axes.fill_between(
            x,
            [min(r) for r in rows],
            [max(r) for r in rows],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
        stopped = [each for each in answer.tried if each.state == "pruned"]
        axes.plot(
            [each.values[name] for each in stopped],
            # What was stopped far below stands on the edge, rather than hiding what differs above.
            [max(fmean(each.by_target[target]), low) for each in stopped],
            "v",
            markerfacecolor="none",
            color=colour,
            label=f"{search.shown[target]}, stopped early" if stopped else None,
        )
    reference = answer.search.space.reference.get(name)
    if reference is not None:
        axes.axvline(reference, color="0.6", linestyle=":", label="the paper's")
    with quiet():  # One value alone spans no axis; matplotlib widens it and says so.
        axes.set(xscale="log", xlabel=name, ylabel="validation metric in %", ylim=(low, high))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    return figure


def _limits(done: Sequence[Tried]) -> tuple[float, float]:
    """Return from where to where the metric is shown: what trials of the whole budget reached."""
    values = [value for each in done for row in each.by_target.values() for value in row]
    if not values:
        return 0.0, 100.0
    margin = max((max(values) - min(values)) * MARGIN, LEAST_MARGIN)
    return min(values) - margin, max(values) + margin


def _table(answer: Answer) -> Iterator[str]:
    search = answer.search
    names, targets = list(search.space.settings), list(search.targets)
    shown = [search.shown[target] for target in targets]
    yield "| trial | " + " | ".join([*names, "state", "value", *shown]) + " |"
    yield "| ---: |" + " ---: |" * len(names) + " --- |" + " ---: |" * (1 + len(targets))
    ranked = sorted(answer.tried, key=lambda e: (-e.rung, -(e.value or 0.0)))
    for each in ranked:
        state = each.state
        if state == "pruned":
            state = f"stopped at {search.budgets[each.rung]} updates"
        value = "" if each.value is None else f"{each.value:.2f}"
        if each.value is not None and each.spread is not None:
            value += f" ± {each.spread:.2f}"
        cells = [f"{fmean(each.by_target[t]):.2f}" if each.by_target else "" for t in targets]
        values = [f"{each.values[n]:.3g}" if n in each.values else "" for n in names]
        yield f"| {each.number} | " + " | ".join([*values, state, value, *cells]) + " |"


def _values(each: Tried) -> str:
    return ", ".join(f"{name} = {value:.3g}" for name, value in each.values.items())


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=150)
    return buffer.getvalue()


def _page(answer: Answer, pictures: dict[str, bytes]) -> str:
    """Return one HTML file that needs no other."""
    escaped = html.escape
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in _table(answer)]
    head = "".join(f"<th scope=col>{escaped(cell)}" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{escaped(cell)}" for cell in row) for row in rows[2:])
    images = "".join(
        f'<img alt="validation metric against {escaped(name)}" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        for name, data in pictures.items()
    )
    search = answer.search
    title = escaped(search.title)
    found = "".join(f"<p>{_as_code(escaped(line))}" for line in findings(answer))
    said = "".join(f"<li>{_as_code(escaped(note))}" for note in notes(answer))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>"
        ":root{color-scheme:light dark}"
        "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse}th,td{padding:.2rem .8rem;text-align:right}"
        "th{border-bottom:1px solid}img{max-width:100%;margin-top:.8em;background:#fff}li{opacity:.8}</style>"
        f"<h1>{title}</h1>{found}{images}<table><thead><tr>{head}<tbody>{body}</table>"
        f"{_every_seed(answer)}<ul>{said}</ul>\n"
    )


def _as_code(text: str) -> str:
    """Return escaped text with what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)


def _every_seed(answer: Answer) -> str:
    """Return a fold with the value of every tuning seed."""
    search = answer.search
    names = [html.escape(search.shown[target]) for target in search.targets]
    head = "".join(f"<th scope=col>{name}" for name in ("trial", *names))
    rows = [
        f"<tr><td>{each.number}"
        + "".join(
            f"<td>{', '.join(f'{v:.2f}' for v in each.by_target[t])}" for t in search.targets
        )
        for each in answer.tried
        if each.by_target
    ]
    title = f"Every seed ({', '.join(map(str, search.seeds))}, in this order)"
    return (
        f"<details><summary>{title}</summary><table><thead><tr>{head}<tbody>{''.join(rows)}"
        "</table></details>"
    )


def _write_optuna_plots(answer: Answer, ledger: Ledger, folder: Path) -> None:
    """Write the plots of Optuna that apply, to look into (HTML) and to show (PNG)."""
    import matplotlib as mpl

    mpl.use("Agg")
    from optuna import visualization
    from optuna.visualization import matplotlib as drawn

    wanted = ["optimization_history", "slice"]
    if answer.search.rungs > 1:
        wanted.append("intermediate_values")
    if len(answer.search.space.settings) > 1 and len(answer.complete) > 1:
        wanted += ["contour", "param_importances"]
    if not answer.complete:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        # A plot that does not apply to so few trials is left out; the answer does not depend on it.
        with quiet(), contextlib.suppress(ValueError, RuntimeError):
            page: Any = getattr(visualization, f"plot_{name}")(ledger.study)
            page.write_html(folder / f"{name}.html", include_plotlyjs="directory")
            axes: Any = getattr(drawn, f"plot_{name}")(ledger.study)
            figure = (axes if hasattr(axes, "figure") else axes.flat[0]).figure
            figure.savefig(folder / f"{name}.png", dpi=120)
            mpl.pyplot.close(figure)
