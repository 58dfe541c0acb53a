"""`hdsweep data`: which datasets there are, and preparing one."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress
from rich.table import Table

from orchestrator.errors import InputError, UnknownNameError
from orchestrator.hardware import cpu_cores
from orchestrator.home import Home
from trainables.data.datasets import all_datasets
from trainables.data.prepared import find_prepared

if TYPE_CHECKING:
    from trainables.data.prepared import Prepared


def listed(home: Path, image_size: int) -> list[dict[str, Any]]:
    """Return one record per dataset."""
    records = []
    for name, info in all_datasets().items():
        prepared = find_prepared(home, name, image_size)
        records.append(
            {
                "name": name,
                "title": info.title,
                "role": info.role,
                "classes": len(info.classes),
                "expected": info.expected,
                "prepared": prepared.images if prepared else None,
                "generated": info.generated,
                "preparable": info.generated or info.find is not None,
                "terms": info.terms,
                "url": info.url,
            }
        )
    return records


def render_datasets(records: list[dict[str, Any]]) -> Table:
    """Return the records for a terminal."""
    table = Table("name", "role", "classes", "images", "prepared", "where to get it, terms")
    for record in records:
        if record["prepared"] is not None:
            state = f"{record['prepared']} images"
        else:
            state = "" if record["preparable"] else "not yet by this release"
        where = "made here" if record["generated"] else f"{record['url']}\n{record['terms']}"
        counts = (str(record["classes"]), str(record["expected"]))
        table.add_row(record["name"], record["role"], *counts, state, where)
    return table


def prepare_dataset(
    name: str,
    source: Path | None,
    home: Home,
    *,
    image_size: int,
    workers: int | None,
    strict: bool,
) -> "Prepared":
    """Prepare one dataset, with a progress bar on standard error.

    Raises:
        InputError: if the dataset is unknown, its files are missing or damaged, or their number is
            not that of the release.
    """
    from trainables.data.errors import DatasetError
    from trainables.data.prepare import prepare

    if name not in all_datasets():
        raise UnknownNameError("dataset", name, all_datasets(), where="NAME")
    info = all_datasets()[name]
    if source is None and not info.generated:
        raise InputError(f"dataset `{name}` needs --from FOLDER, its official download")
    from rich.console import Console

    console = Console(file=sys.stderr)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"preparing {name}", total=None)
        try:
            return prepare(
                info,
                source,
                home.path,
                image_size=image_size,
                workers=workers or cpu_cores(),
                strict=strict,
                on_progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        except DatasetError as error:
            raise InputError(str(error)) from error
