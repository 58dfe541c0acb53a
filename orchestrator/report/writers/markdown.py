"""The table in Markdown, ours above the published one."""

import html
import re
from pathlib import Path

from orchestrator.report.cells import Cell, Published, Table, method_title
from orchestrator.report.made import DATA_FILES, Made
from orchestrator.report.verdicts import RULE, verdict


def write(table: Table, path: Path) -> None:
    """Write the table to a file."""
    path.write_text(render(table), encoding="utf-8")


def render(table: Table, *, short: bool = False) -> str:
    """Return the table as GitHub-flavoured Markdown.

    Args:
        short: name what made it in a line or two, and leave all settings and the study file out.
    """
    titles = [column.title for column in table.columns]
    parts = [f"## {shown(table.title)}", _grid(["method", *titles], _ours(table))]
    parts.append("\n".join(f"- {note}" for note in table.notes))
    published = _published(table)
    if published:
        names = [column.target for column in table.columns]
        said = "for comparison" if table.comparable else "beside it, not for comparison"
        parts += [f"### As published ({said})", _grid(["method", *names], published)]
        parts += [f"- {RULE}"] if table.comparable else []
    parts += _made(table.made, short=short) if table.made else []
    return "\n\n".join(parts) + "\n"


def shown(text: str) -> str:
    """Return somebody's text such that it is read as it is, and not as HTML."""
    return html.escape(text, quote=False)


def _made(made: Made, *, short: bool) -> list[str]:
    """Return what made the table; all settings and the study's text folded."""
    said = f"- {made.differs()}\n- {made.how()}"
    if short:
        return [f"{said}\n- all settings and the study: `report.html`, `table/table.json`"]
    every = "\n".join(made.setting_lines())
    links = ", ".join(f"[{name}]({name})" for name in DATA_FILES)
    folds = [
        ("All settings", every, ""),
        (f"Study {made.identity.study}", made.study_text, "toml"),
    ]
    folds += [(f"Scale {made.identity.scale}", made.scale_text, "toml")]
    if made.from_paper:
        folds.insert(0, ("What is not as in the paper", "\n".join(made.from_paper), ""))
    return [f"{said}\n- data: {links}", *(_fold(*each) for each in folds)]


def _fold(title: str, text: str, language: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"<details><summary>{shown(title)}</summary>\n\n{fence}{language}\n{text.rstrip()}\n{fence}\n\n</details>"


def published_text(cell: Cell) -> str:
    """Return a published cell; what is not known as n/a, what the paper does not have as a dash."""
    if cell.published is None:
        return "–"
    return _with_spread(cell.published, ledm=cell.method.endswith("_ledm"))


def _with_spread(number: Published, *, ledm: bool) -> str:
    if number.mean is None:
        return "n/a"
    if number.std is None:
        # The paper gives no spread for its LEDM rows; elsewhere it was lost.
        return f"{number.mean:.2f}" if ledm else f"{number.mean:.2f} ± n/a"
    return f"{number.mean:.2f} ± {number.std:.2f}"


def _ours(table: Table) -> list[list[str]]:
    return [[table.label(method), *map(_marked, table.row(method))] for method in table.methods]


def _marked(cell: Cell) -> str:
    return f"**{cell}**" if cell.best else str(cell)


def _published(table: Table) -> list[list[str]]:
    return [
        [method_title(method), *map(_judged, table.row(method))]
        for method in table.methods
        if any(cell.published for cell in table.row(method))
    ]


def _judged(cell: Cell) -> str:
    """Return a published cell, and what ours says to it where the two may be compared."""
    found = verdict(cell)
    said = "" if found.difference is None else f" ({found})"
    return f"{published_text(cell)}{said}"


def _grid(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
