"""The table in LaTeX (booktabs), a document that pdflatex compiles as it is."""

import unicodedata
from pathlib import Path

from orchestrator.report.cells import Cell, Table, method_title
from orchestrator.report.made import DATA_FILES, Made
from orchestrator.report.verdicts import RULE, verdict
from orchestrator.report.writers.markdown import published_text
from orchestrator.wording import one_line

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
    "|": r"\textbar{}",
    "[": "{[}",  # After a line's end it would begin an argument.
    "λ": r"$\lambda$",
}
# What the fonts have that every LaTeX comes with.
PLAIN = frozenset(map(chr, range(0x20, 0x7F)))
LATIN = frozenset(map(chr, range(0xA1, 0x100))) - set("«»ÐðÞþ")
PUNCTUATION = frozenset("–—‘’“”…")
PRINTABLE = PLAIN | LATIN | PUNCTUATION


def write(table: Table, path: Path) -> None:
    """Write the table to a file."""
    path.write_text(render(table), encoding="utf-8")


def render(table: Table) -> str:
    """Return a document of its own with the table, its notes and the published numbers."""
    lines = _comments(table.made) if table.made else []
    lines += [r"\documentclass{article}", r"\usepackage{booktabs}"]
    lines += [r"\usepackage[a4paper,margin=2cm]{geometry}", r"\begin{document}"]
    # Five columns of `mean ± std` fit the page at this size.
    lines += [r"\begin{table}\centering\footnotesize\setlength{\tabcolsep}{4pt}"]
    lines += [rf"\caption{{{escaped(table.title)}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule"]
    lines += [_line(["method", *(column.title for column in table.columns)]), r"\midrule"]
    lines += [_ours(table, method) for method in table.methods]
    lines += _published(table)
    lines += _verdicts(table) if table.comparable else []
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    notes = [*table.notes, RULE] if table.comparable else table.notes
    lines += [rf"\noindent\raggedright {escaped(note)}.\par" for note in notes]
    return "\n".join([*lines, r"\end{document}", ""])


def _published(table: Table) -> list[str]:
    """Return the published rows; none for a study that names no paper."""
    if table.paper is None:
        return []
    rows = [
        _line([method_title(method), *map(published_text, table.row(method))])
        for method in table.methods
        if any(cell.published for cell in table.row(method))
    ]
    return [r"\midrule", _line(["as published", *[""] * len(table.columns)]), *rows]


def _comments(made: Made) -> list[str]:
    """Return what made the table, as comments."""
    said = [made.differs(), made.how(), f"data: {', '.join(DATA_FILES)}"]
    said += [*(f"not as in the paper: {each}" for each in made.from_paper)]
    said += ["", "All settings:", *made.setting_lines()]
    said += ["", f"Study {made.identity.study}:", *made.study_text.splitlines()]
    said += ["", f"Scale {made.identity.scale}:", *made.scale_text.splitlines()]
    return [f"% {one_line(each)}".rstrip() for each in said]


def escaped(text: str) -> str:
    """Return text in which LaTeX sees no command, and no letter that its fonts lack."""
    return "".join(map(_escaped, unicodedata.normalize("NFC", text)))


def _escaped(character: str) -> str:
    if character in SPECIAL:
        return SPECIAL[character]
    return character if character in PRINTABLE else f"U+{ord(character):04X}"


def _verdicts(table: Table) -> list[str]:
    """Return what is said of each cell against the published one."""
    lines = [r"\midrule", _line(["ours against it", *[""] * len(table.columns)])]
    return lines + [
        _line([method_title(method), *(verdict(cell).word for cell in table.row(method))])
        for method in table.methods
        if any(cell.published for cell in table.row(method))
    ]


def _ours(table: Table, method: str) -> str:
    return _join([escaped(table.label(method)), *map(_marked, table.row(method))])


def _marked(cell: Cell) -> str:
    return rf"\textbf{{{escaped(str(cell))}}}" if cell.best else escaped(str(cell))


def _line(parts: list[str]) -> str:
    return _join([escaped(part) for part in parts])


def _join(parts: list[str]) -> str:
    return rf"{' & '.join(parts)} \\"
