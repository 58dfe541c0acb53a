"""The table and its report: cells from the store, statistics, and one writer per format."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.report.cells import Table
from orchestrator.report.writers import latex, markdown, records

if TYPE_CHECKING:
    from orchestrator.report.evidence import Evidence

PAGE, FIGURES = "report.html", "figures"
WRITERS: Mapping[str, Callable[[Table, Path], None]] = {
    "table.md": markdown.write,
    "table.tex": latex.write,
    "table.csv": records.write_csv,
    "table.parquet": records.write_parquet,
    "table.json": records.write_json,
}


def write_report(
    table: Table,
    folder: Path,
    evidence: "Evidence | None" = None,
    *,
    processes: int = 1,
    links: str = "",
) -> list[Path]:
    """Write the table in every format into `folder`, and the page with its figures; return the files.

    Args:
        evidence: what stands behind the table; without it there are no page and no figures.
        processes: how many draw figures, as `figures.save` has it.
        links: path to `folder` from where the page will lie.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, write in WRITERS.items():
        write(table, folder / name)
    files = [folder / name for name in WRITERS]
    if evidence is not None:
        from orchestrator.report import figures
        from orchestrator.report.writers import page

        drawn = figures.save(table, evidence, folder / FIGURES, processes=processes)
        (folder / PAGE).write_text(
            page.render(table, evidence, drawn, links=links), encoding="utf-8"
        )
        files = [folder / PAGE, *files, *sorted((folder / FIGURES).iterdir())]
    return files
