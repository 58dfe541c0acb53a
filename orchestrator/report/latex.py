"""The table in LaTeX (booktabs): `\\input` it, or compile it as it is."""

from pathlib import Path

from orchestrator.report.cells import Cell, Table, method_title
from orchestrator.report.markdown import published_text

SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "–": "--",
    ">": r"$>$",
    "<": r"$<$",
}


def write(table: Table, path: Path) -> None:
    """Write the table to a file."""
    path.write_text(render(table))


def render(table: Table) -> str:
    """Return a document of its own with the table, its notes and the published numbers."""
    lines = [r"\documentclass{article}", r"\usepackage{booktabs}"]
    lines += [r"\usepackage[a4paper,margin=2cm]{geometry}", r"\begin{document}"]
    # Five columns of `mean ± std` fit the page at this size.
    lines += [r"\begin{table}\centering\footnotesize\setlength{\tabcolsep}{4pt}"]
    lines += [rf"\caption{{{escaped(table.title)}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule"]
    lines += [_line(["method", *(column.title for column in table.columns)]), r"\midrule"]
    lines += [_ours(table, method) for method in table.methods]
    lines += [r"\midrule", _line(["as published", *[""] * len(table.columns)])]
    lines += [
        _line([method_title(method), *map(published_text, table.row(method))])
        for method in table.methods
        if any(cell.published for cell in table.row(method))
    ]
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    lines += [rf"\noindent\raggedright {escaped(note)}.\par" for note in table.notes]
    return "\n".join([*lines, r"\end{document}", ""])


def escaped(text: str) -> str:
    """Return text in which LaTeX sees no command."""
    return "".join(SPECIAL.get(character, character) for character in text)


def _ours(table: Table, method: str) -> str:
    return _join([escaped(table.label(method)), *map(_marked, table.row(method))])


def _marked(cell: Cell) -> str:
    return rf"\textbf{{{escaped(str(cell))}}}" if cell.best else escaped(str(cell))


def _line(parts: list[str]) -> str:
    return _join([escaped(part) for part in parts])


def _join(parts: list[str]) -> str:
    return rf"{' & '.join(parts)} \\"
