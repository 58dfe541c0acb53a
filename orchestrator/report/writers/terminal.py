"""The table for a terminal, and for a pipe, where nothing is cut."""

from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from orchestrator.report.cells import BEST_RULE, Cell, Table
from orchestrator.report.writers.markdown import published_text

ROOMY = 10_000  # Columns, to ask how many a table would take.
BOLD, STAR = "bold", "*"


@dataclass(frozen=True)
class _Shown:
    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table, plain = self.table, console.color_system is None
        yield Text(table.title, style="bold")  # Not the grid's: that is as wide as its columns.
        roomy = _grid(table, tight=False, plain=plain)
        needed = Measurement.get(console, options.update(max_width=ROOMY), roomy)
        fits = needed.maximum <= options.max_width
        yield roomy if fits else _grid(table, tight=True, plain=plain)
        made = () if table.made is None else (table.made.differs(), table.made.how())
        for note in (*table.notes, *made):
            starred = plain and note == BEST_RULE
            yield Text(f"{STAR}{note.removeprefix(BOLD)}" if starred else note, style="dim")


def render(table: Table) -> RenderableType:
    """Return the table, with the published numbers dimmed below ours if they may be compared.

    What is bold has a star where there are no styles.
    """
    return _Shown(table)


def _grid(table: Table, *, tight: bool, plain: bool) -> RichTable:
    grid = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column("method", no_wrap=True)
    for column in table.columns:
        # Two short lines rather than one that would not fit beside four others in 80 columns.
        title = column.title.replace("-like", "\n-like") if tight else column.title
        grid.add_column(title, justify="right", no_wrap=True)
    for method in table.methods:
        cells = (_text(table, cell, plain=plain) for cell in table.row(method))
        grid.add_row(f"{method}{table.mark(method)}", *cells)
    return grid


def _text(table: Table, cell: Cell, *, plain: bool) -> Text:
    star = STAR if plain and cell.best else ""
    text = Text(f"{star}{cell}".replace(" ± ", "±"), style=BOLD if cell.best else "")
    if table.comparable:
        text.append(f"\n{published_text(cell).replace(' ± ', '±')}", style="dim")
    return text
