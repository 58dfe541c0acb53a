"""The table for machines: one record per cell in JSON, one row per cell and seed otherwise.

Nothing in it but the field `made` of the JSON, and what describes the other two, depends on when or where
the runs ran, so that two sweeps of the same study give the same bytes.
"""

import csv
import json
from pathlib import Path
from typing import Any

from orchestrator.json_documents import document
from orchestrator.report.cells import Cell, Table
from orchestrator.report.verdicts import verdict

COLUMNS: dict[str, type] = {
    "sweep": str,
    "method": str,
    "target": str,
    "dataset": str,
    "metric": str,
    "seed": int,
    "key": str,
    "value_percent": float,
    "mean_percent": float,
    "std_percent": float,
    "n": int,
    "published_mean_percent": float,
    "published_std_percent": float,
    "verdict": str,
    "difference_points": float,
    "generated": bool,
    "random_backbone": bool,
    "comparable": bool,
}
"""Of the long form; what has a unit is named with it."""


def to_records(table: Table) -> list[dict[str, Any]]:
    """Return one JSON-ready record per cell, row by row."""
    return [_record(cell) for method in table.methods for cell in table.row(method)]


def write_json(table: Table, path: Path) -> None:
    """Write the document, see `to_document`."""
    path.write_text(_json(to_document(table)), encoding="utf-8")


def to_document(table: Table) -> dict[str, Any]:
    """Return the table as one JSON document: what it is, its cells, its notes, what made it."""
    made = table.made
    content = {
        **(made.constant() if made else {}),
        "title": table.title,
        "generated": table.generated,
        "comparable": table.comparable,
        "made": made.particular() if made else None,
        "cells": to_records(table),
        "notes": list(table.notes),
    }
    return document("table", content)


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_csv(table: Table, path: Path) -> None:
    """Write one row per cell and seed, a missing value empty, and what made them beside it.

    That is `<name>-metadata.json`, where readers of "CSV on the Web" look for it: a comment in the file itself
    would stop the others.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(COLUMNS))
        writer.writeheader()
        writer.writerows(_long(table))
    kinds = {str: "string", int: "integer", float: "number", bool: "boolean"}
    columns = [{"name": name, "datatype": kinds[kind]} for name, kind in COLUMNS.items()]
    described = {
        "@context": "http://www.w3.org/ns/csvw",
        "url": path.name,
        "tableSchema": {"columns": columns},
        "notes": [_description(table)],
    }
    path.with_name(f"{path.name}-metadata.json").write_text(_json(described), encoding="utf-8")


def _description(table: Table) -> dict[str, Any]:
    """Return the document without its cells."""
    return {name: value for name, value in to_document(table).items() if name != "cells"}


def write_parquet(table: Table, path: Path) -> None:
    """Write the same rows as the CSV file; what made them is the schema's metadata `hdsweep`, as JSON."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    # Stated, not inferred: a table without any value has the same columns as a full one.
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    schema = schema.with_metadata({"hdsweep": _json(_description(table))})
    pq.write_table(pa.Table.from_pylist(_long(table), schema=schema), path)


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
        "planned": cell.n_planned,
        "missing": {str(seed): why for seed, why in cell.missing.items()},
        "keys": {str(seed): key for seed, key in cell.keys.items()},
        "generated": cell.generated,
        "random_backbone": cell.random_backbone,
        "comparable": cell.comparable,
        "best": cell.best,
        "verdict": verdict(cell).word or None,
    }


def _long(table: Table) -> list[dict[str, Any]]:
    return [
        {"sweep": table.made.identity.name if table.made else None, **_row(cell, seed)}
        for method in table.methods
        for cell in table.row(method)
        for seed in sorted({*cell.values, *cell.missing})
    ]


def _row(cell: Cell, seed: int) -> dict[str, Any]:
    published, found = cell.published, verdict(cell)
    return {
        "method": cell.method,
        "target": cell.target,
        "dataset": cell.dataset,
        "metric": cell.metric,
        "seed": seed,
        "key": cell.keys.get(seed),
        "value_percent": cell.values.get(seed),
        "mean_percent": cell.mean,
        "std_percent": cell.std,
        "n": cell.n,
        "published_mean_percent": published.mean if published else None,
        "published_std_percent": published.std if published else None,
        "verdict": found.word or None,
        "difference_points": found.difference,
        "generated": cell.generated,
        "random_backbone": cell.random_backbone,
        "comparable": cell.comparable,
    }
