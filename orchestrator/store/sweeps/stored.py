"""Sweeps in the store: begun, ended, their tables, and what is known of them when the database is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.plan.plan import Plan
from orchestrator.provenance import changes, provenance
from orchestrator.store.book import LONGEST_TAG
from orchestrator.store.shared import SUMMARY, StoreParts, metric, prefixed
from orchestrator.store.sweeps import file as sweep_file
from orchestrator.store.sweeps.file import Description, describe
from orchestrator.store.sweeps.labels import sweep_labels
from orchestrator.store.sweeps.records import (
    SWEEP,
    SWEEP_KEY,
    SWEEP_NAME,
    TABLE_FOLDER,
    SweepRecords,
    table_keys,
)
from orchestrator.store.tags import KIND, PARENT
from orchestrator.store.tracking.database import Known

if TYPE_CHECKING:
    from mlflow.entities import Metric

PAGE = "report.html"
CODE = "sources"  # Folder of a sweep's artifacts: changes since the commit, as patches.


class SweepStore(StoreParts):
    """The sweeps of a store."""

    _sweep: str | None = None
    _swept: Plan | None = None
    _began = 0.0

    @property
    def sweeps(self) -> SweepRecords:
        """What sweeps are stored, and which of them a plan belongs to."""
        return SweepRecords(self._parents, self._artifacts_of)

    @property
    def swept(self) -> Plan:
        """The plan whose table is that of the sweep that was begun: the whole, also if a part is run."""
        assert self._swept is not None, "no sweep was begun"
        return self._swept

    def tables(self) -> dict[str, Path]:
        """Return the folders of the stored tables, by the names of their sweeps."""
        names = self.sweeps.names()
        folders = {name: self.sweeps.folder(key) / TABLE_FOLDER for key, name in names.items()}
        return {name: folder for name, folder in folders.items() if folder.is_dir()}

    def begin_sweep(self, plan: Plan, command: str | None = None) -> str:
        """Return the MLflow run of the sweep that a plan is, or completes; made if there is none yet.

        Args:
            command: that was typed, without secrets.
        """
        chosen = self.sweeps.choose(plan, self.home.path)
        key, known, before = chosen.key, chosen.known, None
        command = command or f"hdsweep run {plan.study} --scale {plan.scale}"
        labels = {**sweep_labels(chosen.plan, command), **prefixed(provenance())}
        if known is None:
            alike = chosen.plan.identity.name in self.sweeps.names().values()
            named = describe(chosen.plan).run_name + (f" #{key}" if alike else "")
            known = self._book.create(named, {KIND: "sweep", **labels})
        else:
            before = sweep_file.read(self._artifacts_of(known.run_id))
            known = self._book.write(known, tags=labels, status="RUNNING")
        if chosen.was is not None:
            del self._parents[chosen.was]
        self._parents[key] = known
        self._sweep, self._swept, self._began = key, chosen.plan, time.monotonic()
        begun = (before or describe(chosen.plan)).begun(chosen.plan, command)
        self._describe(replace(begun, labels=labels))
        self._keep_changes(known.run_id)
        self._nest(known, chosen.plan)
        return known.run_id

    def take_up(self, key: str, plan: Plan | None) -> None:
        """Have a stored sweep be the current one, to write its table anew; nothing of it is run."""
        self._sweep, self._swept = key, plan

    def note_end(self, *, complete: bool) -> None:
        """Write down how long the command has taken, and whether nothing of the sweep is left to do."""
        before = sweep_file.read(self._artifacts_of(self._parent().run_id))
        if before is not None:
            self._describe(before.ended(time.monotonic() - self._began, complete=complete))

    def diffs(self) -> dict[str, str]:
        """Return the changes since their commit that sweeps were made with, by their hash."""
        folders = (self._artifacts_of(parent.run_id) / CODE for parent in self._parents.values())
        return {
            path.stem: path.read_text(errors="replace", encoding="utf-8")
            for folder in folders
            for path in sorted(folder.glob("*.patch"))
        }

    def _keep_changes(self, run_id: str) -> None:
        """Keep what differs from the commit: without it, the commit does not tell the code."""
        if changes():
            folder = self._artifacts_of(run_id) / CODE
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{provenance()['changes']}.patch").write_text(changes(), encoding="utf-8")

    def write_table(
        self, files: Callable[[Path], object], rows: Sequence[Mapping[str, Any]], note: str
    ) -> Path:
        """Store the table of the current sweep: its files, MLflow's own table, and the summaries.

        Args:
            files: writes the files into the folder it is given.
            rows: one record per cell, as in the JSON report.
            note: Markdown that the UI shows with the sweep.
        """
        root = self._artifacts_of(self._parent().run_id)
        folder = root / TABLE_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        files(folder)
        if (folder / PAGE).is_file():
            # On top of the sweep's artifacts, where whoever opens them looks first.
            (folder / PAGE).replace(root / PAGE)
        self.note_table(rows, note)
        # Where it is now: somebody may have deleted the sweep's run for good in the meantime.
        return self._artifacts_of(self._parent().run_id) / TABLE_FOLDER

    def note_table(self, rows: Sequence[Mapping[str, Any]], note: str) -> None:
        """Record the table of the current sweep, of which the files are there: see `write_table`."""
        folder = self._artifacts_of(self._parent().run_id) / TABLE_FOLDER
        columns = ["method", "target", "metric", "mean", "std", "n"]
        shown = [{**row, "target": row["dataset"]} for row in rows]
        content = {"columns": columns, "data": [[row[c] for c in columns] for row in shown]}
        (folder / "cells.json").write_text(json.dumps(content), encoding="utf-8")
        listed = json.dumps([{"path": "table/cells.json", "type": "table"}])
        tags = {"mlflow.loggedArtifacts": listed, "mlflow.note.content": note[:LONGEST_TAG]}
        self._write_to_sweep(tags=tags)
        self._log_means(rows)
        for row in rows:
            self._summarise(row)

    def _log_means(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the means of the table to the sweep's own run, so that sweeps can be compared."""
        means = {
            f"{row['method']}/{row['dataset']}": float(row["mean"])
            for row in rows
            if row["mean"] is not None
        }
        known, now = self._parent().metrics, time.time_ns() // 1_000_000
        step = sum(int(row["n"]) for row in rows)
        fresh = {name: value for name, value in means.items() if known.get(name) != value}
        metrics = [metric(name, value, now, step) for name, value in fresh.items()]
        self._write_to_sweep(metrics=metrics, last=fresh)

    def end_sweep(self, *, complete: bool) -> None:
        """Mark the sweep as finished, or as interrupted with runs left to do."""
        found = sweep_file.read(self._artifacts_of(self._parent().run_id))
        if found is not None and found.sessions[-1].seconds is None:
            self.note_end(complete=complete)
        self._write_to_sweep(status="FINISHED" if complete else "FAILED")

    def _parent(self) -> Known:
        assert self._sweep is not None, "no sweep was begun"
        return self._parents[self._sweep]

    def _write_to_sweep(self, **what: Any) -> None:
        assert self._sweep is not None, "no sweep was begun"
        self._write(self._parents, self._sweep, **what)

    def _describe(self, description: Description) -> None:
        folder = self._artifacts_of(self._parent().run_id)
        sweep_file.write(description, folder)
        if self.home.mirror is not None:
            self.home.mirror.carry(folder / sweep_file.FILE)

    def _nest(self, sweep: Known, plan: Plan) -> None:
        """Put below a sweep its subsets with their runs, and runs of its that lie below nothing any more."""
        parts = self.sweeps.parts_of(plan)
        above = {known.run_id for known in (*self._parents.values(), *self._groups.values())}
        above -= {self._parents[key].run_id for key in parts}
        here = {PARENT: sweep.run_id}
        for key in parts:
            self._write(self._parents, key, tags=here)
        for run in plan.runs:
            known = self._runs.get(run.key)
            if known is not None and known.tags.get(PARENT, sweep.run_id) not in above:
                self._write(self._runs, run.key, tags=here)

    def _sweep_for(self, key: str, name: str, labels: Mapping[str, str]) -> str:
        """Return the MLflow run of the sweep that a run was made for, made if it is nowhere described."""
        key = self.sweeps.nearest(key)
        if key not in self._parents:
            self._parents[key] = self._book.create(name, {KIND: "sweep", SWEEP: key, **labels})
        return self._parents[key].run_id

    def _sweep_of(self, run_id: str | None) -> dict[str, Any]:
        """Return what a run notes of the sweep that it is made for, by the id of the MLflow run above it."""
        for key, known in self._parents.items():
            if known.run_id == run_id:
                names = (SWEEP, SWEEP_KEY, SWEEP_NAME)
                labels = {tag: known.tags[tag] for tag in names if tag in known.tags}
                return {"sweep": key, "sweep_name": known.name, "sweep_labels": labels}
        return {"sweep": None, "sweep_name": None, "sweep_labels": {}}

    def _adopt_sweeps(self, folders: Sequence[Path]) -> None:
        """Make MLflow runs of the sweeps that lost theirs; of two of one key, of the newer."""
        described = [(found, folder) for folder in folders if (found := sweep_file.read(folder))]
        newest_first = sorted(described, key=lambda each: each[0].date, reverse=True)
        # A subset comes below its whole.
        for found, folder in sorted(newest_first, key=lambda each: bool(each[0].identity.subset)):
            key = found.identity.key
            if key not in self._parents:
                whole = self._parents.get(self.sweeps.nearest(key))
                tags = {KIND: "sweep", **found.labels, **({PARENT: whole.run_id} if whole else {})}
                known = self._book.create(found.run_name, tags, found.began_ms)
                self._parents[key] = self._book.write(known, status=found.status)
                self._move_artifacts(folder, known)

    def _adopt_tables(self, folders: Sequence[Path]) -> None:
        """Give tables from before sweeps were described to the sweeps that their runs are of."""
        for folder in folders:
            keys = table_keys(folder)
            above = {self._runs[key].tags.get(PARENT) for key in keys if key in self._runs}
            for key, known in self._parents.items():
                lacks = not (self.sweeps.folder(key) / TABLE_FOLDER).exists()
                if known.run_id in above and lacks:
                    self._move_artifacts(folder, known)
                    break

    def _summarise(self, row: Mapping[str, Any]) -> None:
        """Keep one MLflow run per row and target of the table, so that the UI can compare them."""
        parent = self._parent()
        cell = f"{row['method']}/{row['target']}"
        name, before = f"{self._sweep}/{cell}", f"{parent.tags[SWEEP]}/{cell}"
        values = {k: float(row[k]) for k in ("mean", "std", "n") if row[k] is not None}
        known = self._summaries.get(name) or self._summaries.get(before)
        if known is None or known.tags.get(PARENT) != parent.run_id:
            tags = {KIND: "summary", SUMMARY: name, PARENT: parent.run_id}
            tags |= {f"hdsweep.{k}": str(row[k]) for k in ("method", "target", "metric")}
            varied = self._swept.identity.varied if self._swept else ""
            known = self._book.create(f"{row['method']}/{row['dataset']}{varied} (mean)", tags)
        metrics: list[Metric] = []
        if values != known.metrics:
            now = time.time_ns() // 1_000_000
            metrics = [metric(k, v, now, int(row["n"])) for k, v in values.items()]
        elif known.status == "FINISHED":
            return
        self._summaries[name] = self._book.write(
            known, metrics=metrics, last=values, status="FINISHED"
        )
