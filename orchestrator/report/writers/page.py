"""The report as one HTML file: opens from disk and in MLflow's artifact view, needs nothing else.

Everything is inlined and nothing is fetched; without scripts; readable in print and in both colour
schemes. What it says is decided elsewhere: this file only puts it on a page.
"""

import base64
import io
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from orchestrator.report.cells import GENERATED, Cell, Table
from orchestrator.report.claims import check_claims
from orchestrator.report.evidence import Done, Evidence
from orchestrator.report.figures import BASELINES, INK, PALE, gains_of, ranks_of
from orchestrator.report.findings import in_a_sentence, not_told
from orchestrator.report.made import DATA_FILES
from orchestrator.report.statistics import least_sign_test_p
from orchestrator.report.verdicts import RULE, verdict
from orchestrator.report.writers.markdown import published_text
from orchestrator.wording import duration, in_short

WIDEST = 1000  # Pixels of an inlined picture.
MOST_IDS = 400  # Of a part of a dataset; all are in the artifacts of every run.
LONGEST_DIFF = 60_000  # Characters shown; the whole of it is an artifact of the sweep.
CAPTIONS = {
    "seeds": "Every seed of every method, a line at the mean"
    "; where it may be compared, a diamond at the published mean.",
    "gain_over_scratch_adm": "Ahead of an ADM from scratch, in points, with 95 % intervals over "
    "seeds and test images.",
    "gain_over_supervised_ft": "Ahead of supervised pretraining, in points, with 95 % intervals "
    "over seeds and test images.",
    "ranks": "Mean rank over the targets; the bands hold 95 % of resamplings of seeds and images.",
    "pretraining_curves": "Training loss of the pretrainings; the losses of different tasks are "
    "different quantities.",
    "fine_tuning_curves": "Validation metric while fine-tuning, a line per seed, ten at most. LEDM is "
    "not validated while it trains.",
}


def render(
    table: Table, evidence: Evidence, figures: Mapping[str, str], *, links: str = ""
) -> str:
    """Return the page.

    Args:
        figures: SVG by name, as `figures.svg` returns it.
        links: path from the page to the files of the table, ending in a slash if there is any.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default_for_string=True, default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "title": table.label}
    values = {
        "table": table,
        "plan": evidence.plan,
        "evidence": evidence,
        "generated": GENERATED if evidence.plan.generated else "",
        "figures": {name: inlined_figure(each, name) for name, each in figures.items()},
        "captions": CAPTIONS,
        "claims": check_claims(table) if table.paper else (),
        "sentence": in_a_sentence(table),
        "not_told": not_told(table),
        "ranks": ranks_of(table),
        "published_text": published_text,
        "raw": raw_values,
        "each_seed": each_seed,
        "baselines": BASELINES,
        "gains_of": gains_of,
        "ids": lambda part: in_short(part, most=MOST_IDS),
        "verdict": verdict,
        "rule": RULE,
        "progress": progress(table, evidence),
        "least_p": least_sign_test_p(len(evidence.plan.seeds)),
        "predictions": predictions(table, evidence),
        "samples": samples(evidence),
        "diffs": {name: diff[:LONGEST_DIFF] for name, diff in evidence.diffs.items()},
        "longest_diff": LONGEST_DIFF,
        "made": table.made,
        "files": {name: f"{links}{name}" for name in ("table.md", "table.tex", *DATA_FILES)},
    }
    return environment.get_template("page.html.j2").render(values)


def progress(table: Table, evidence: Evidence) -> dict[str, int]:
    """Return how much of the table there is."""
    return {
        "runs": len(evidence.plan.runs),
        "finished": len(evidence.done),
        "failed": sum(len(group.keys) for group in evidence.groups),
        "cells": len(table.cells),
        "whole": sum(not cell.missing for cell in table.cells.values()),
    }


def raw_values(cell: Cell) -> str:
    """Return every number behind a cell, and why others are missing."""
    parts = [f"seed {seed}: {value:.4f}" for seed, value in sorted(cell.values.items())]
    parts += [f"seed {seed}: {why}" for seed, why in sorted(cell.missing.items())]
    return "; ".join(parts)


def each_seed(cell: Cell) -> str:
    """Return the values of a cell in the order of its seeds, a dash for what is missing."""
    if not cell.values:
        return "–"
    seeds = sorted({*cell.values, *cell.missing})
    return ", ".join(f"{cell.values[s]:.2f}" if s in cell.values else "–" for s in seeds)


def predictions(table: Table, evidence: Evidence) -> dict[str, list[tuple[str, Markup]]]:
    """Return by target each method's worst and median cases, of its seed nearest to the mean."""
    shown: list[tuple[str, str, Path]] = []
    for column in table.columns if evidence.pictures else ():
        for method in table.methods:
            done = _typical(table.cells[method, column.target], evidence)
            path = done.artifacts / "predictions.png" if done else None
            if done and path and path.is_file():
                where = f"{table.label(method)}, {column.title}, seed {done.run.seed}"
                shown.append((column.title, where, path))
    alts = [f"images, ground truth and predictions: {where}" for _, where, _ in shown]
    found: dict[str, list[tuple[str, Markup]]] = {}
    # In threads: Pillow lets others go on while it reads and encodes.
    with ThreadPoolExecutor() as pool:
        pictures = pool.map(inlined_picture, (path for *_, path in shown), alts)
        for (title, where, _), picture in zip(shown, pictures, strict=True):
            found.setdefault(title, []).append((where, picture))
    return found


def samples(evidence: Evidence) -> list[tuple[str, Markup]]:
    """Return what each diffusion model draws."""
    return [
        (done.run.label, inlined_picture(path, f"samples of {done.run.label}"))
        for done in evidence.done.values()
        if evidence.pictures and (path := done.artifacts / "samples.png").is_file()
    ]


def _typical(cell: Cell, evidence: Evidence) -> Done | None:
    if cell.mean is None:
        return None
    mean = cell.mean
    seed = min(cell.values, key=lambda each: (abs(cell.values[each] - mean), each))
    for done in evidence.done.values():
        run = done.run
        if (run.target, run.seed) == (cell.target, seed) and cell.method in run.methods:
            return done
    return None


def inlined_picture(path: Path, alt: str) -> Markup:
    """Return an <img> with the picture in it, made smaller if it is wider than a page."""
    from PIL import Image

    with Image.open(path) as picture:
        shown = picture.convert("RGB")
    shown.thumbnail((WIDEST, 10 * WIDEST))
    buffer = io.BytesIO()
    shown.save(buffer, "WEBP", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    width, height = shown.size
    return Markup('<img alt="{}" width="{}" height="{}" src="data:image/webp;base64,{}">').format(
        alt, width, height, data
    )


def inlined_figure(text: str, name: str) -> Markup:
    """Return a figure as an <svg> that takes the colour of the text around it."""
    text = text[text.index("<svg") :]
    used = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", text))
    # Ids are for what refers to them; the others would be there once per figure.
    text = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", text)
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace(INK, "currentColor").replace(PALE, "var(--line)")
    label = str(Markup.escape(CAPTIONS[name]))
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))
