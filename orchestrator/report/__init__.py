"""The table: cells from the store, and one writer per format."""

from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.report import latex, markdown, records
from orchestrator.report.cells import Table

WRITERS: Mapping[str, Callable[[Table, Path], None]] = {
    "table.md": markdown.write,
    "table.tex": latex.write,
    "table.csv": records.write_csv,
    "table.parquet": records.write_parquet,
    "table.json": records.write_json,
}


def write_report(table: Table, folder: Path) -> list[Path]:
    """Write the table in every format into `folder` and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, write in WRITERS.items():
        write(table, folder / name)
    return [folder / name for name in WRITERS]
