"""The table for a terminal, and for a pipe, where nothing is cut."""

from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from orchestrator.report.cells import Cell, Table
from orchestrator.report.markdown import published_text

ROOMY = 10_000  # Columns, to ask how many a table would take.


@dataclass(frozen=True)
class _Fitting:
    """The first of two ways to write a table if it fits, else the second."""

    roomy: RichTable
    tight: RichTable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        needed = Measurement.get(console, options.update(max_width=ROOMY), self.roomy)
        yield self.roomy if needed.maximum <= options.max_width else self.tight


def render(table: Table) -> Group:
    """Return the table, with the published numbers dimmed below ours if they may be compared."""
    grid = _Fitting(_grid(table, tight=False), _grid(table, tight=True))
    made = () if table.made is None else (table.made.differs(), table.made.how())
    return Group(grid, *(Text(note, style="dim") for note in (*table.notes, *made)))


def _grid(table: Table, *, tight: bool) -> RichTable:
    grid = RichTable(title=table.title, title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column("method", no_wrap=True)
    for column in table.columns:
        # Two short lines rather than one that would not fit beside four others in 80 columns.
        title = column.title.replace("-like", "\n-like") if tight else column.title
        grid.add_column(title, justify="right", no_wrap=True)
    for method in table.methods:
        cells = (_text(table, cell) for cell in table.row(method))
        grid.add_row(f"{method}{table.mark(method)}", *cells)
    return grid


def _text(table: Table, cell: Cell) -> Text:
    text = Text(str(cell).replace(" ± ", "±"), style="bold" if cell.best else "")
    if table.comparable:
        text.append(f"\n{published_text(cell).replace(' ± ', '±')}", style="dim")
    return text
