"""The table for machines: one record per cell in JSON, one row per cell and seed otherwise.

Nothing in it depends on when or where the runs ran, so that two sweeps of the same study give the
same bytes.
"""

import csv
import json
from pathlib import Path
from typing import Any

from orchestrator.report.cells import Cell, Table


def to_records(table: Table) -> list[dict[str, Any]]:
    """Return one JSON-ready record per cell, row by row."""
    return [_record(cell) for method in table.methods for cell in table.row(method)]


def write_json(table: Table, path: Path) -> None:
    """Write the records and the notes."""
    content = {"title": table.title, "cells": to_records(table), "notes": list(table.notes)}
    path.write_text(json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def write_csv(table: Table, path: Path) -> None:
    """Write one row per cell and seed; a missing value is empty."""
    rows = _long(table)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(table: Table, path: Path) -> None:
    """Write the same rows as the CSV file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(_long(table)), path)


def _record(cell: Cell) -> dict[str, Any]:
    published = cell.published
    return {
        "method": cell.method,
        "target": cell.target,
        "metric": cell.metric,
        "values": {str(seed): value for seed, value in cell.values.items()},
        "mean": cell.mean,
        "std": cell.std,
        "n": cell.n,
        "published": {"mean": published.mean, "std": published.std} if published else None,
        "dataset": cell.dataset,
        "n_planned": cell.n_planned,
        "missing": {str(seed): why for seed, why in cell.missing.items()},
        "keys": {str(seed): key for seed, key in cell.keys.items()},
        "generated": cell.generated,
        "random_backbone": cell.random_backbone,
        "comparable": cell.comparable,
        "best": cell.best,
    }


def _long(table: Table) -> list[dict[str, Any]]:
    rows = []
    for method in table.methods:
        for cell in table.row(method):
            published = cell.published
            for seed in sorted({*cell.values, *cell.missing}):
                rows.append(
                    {
                        "method": cell.method,
                        "target": cell.target,
                        "dataset": cell.dataset,
                        "metric": cell.metric,
                        "seed": seed,
                        "value": cell.values.get(seed),
                        "mean": cell.mean,
                        "std": cell.std,
                        "n": cell.n,
                        "published_mean": published.mean if published else None,
                        "published_std": published.std if published else None,
                        "generated": cell.generated,
                        "random_backbone": cell.random_backbone,
                        "comparable": cell.comparable,
                    }
                )
    return rows
