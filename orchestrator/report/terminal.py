"""The table for a terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from orchestrator.report.cells import Cell, Table
from orchestrator.report.markdown import published_text


def render(table: Table) -> Group:
    """Return the table, with the published numbers dimmed below ours if they may be compared."""
    grid = RichTable(title=table.title, title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column("method", no_wrap=True)
    for column in table.columns:
        # Two short lines rather than one that would not fit beside four others in 80 columns.
        grid.add_column(column.title.replace("-like", "\n-like"), justify="right", no_wrap=True)
    for method in table.methods:
        cells = table.row(method)
        grid.add_row(f"{method}{table.mark(method)}", *(_text(table, cell) for cell in cells))
    return Group(grid, *(Text(note, style="dim") for note in table.notes))


def _text(table: Table, cell: Cell) -> Text:
    text = Text(str(cell).replace(" ± ", "±"), style="bold" if cell.best else "")
    if table.comparable:
        text.append(f"\n{published_text(cell)}", style="dim")
    return text
