"""Groups: MLflow runs that stand for several others, such as a search and each of its trials."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.provenance import provenance
from orchestrator.store import group_file
from orchestrator.store.shared import GROUP, StoreParts, metric, prefixed
from orchestrator.store.tags import KIND, OURS, PARENT
from orchestrator.store.tracking.database import Known

USES = "hdsweep.uses."  # And a step; the keys of the runs that a group needs there.


class GroupStore(StoreParts):
    """The groups of a store."""

    def begin_group(
        self,
        name: str,
        title: str,
        tags: Mapping[str, str],
        *,
        parent: str | None = None,
        params: Mapping[str, float] | None = None,
    ) -> str:
        """Return the MLflow run that stands for several others, made if there is none yet.

        Args:
            name: its own in this home, such as that of a search.
            params: written once, when it is made.
        """
        known = self._groups.get(name)
        labels = {**tags, **prefixed(provenance())}
        if known is None:
            labels |= {KIND: "group", GROUP: name, **({PARENT: parent} if parent else {})}
            known = self._book.create(title, labels)
            self._note_group(name, known, params)
        elif known.status != "RUNNING":
            known = self._book.write(known, tags=labels, status="RUNNING")
        if params and not known.has_params:
            # Of a group that is there too: a driver may have been killed in between.
            known = self._book.write(known, params=params)
        self._groups[name] = known.now(tags=labels)
        return known.run_id

    def group_run(self, name: str) -> str:
        """Return the id of the MLflow run of a group."""
        return self._groups[name].run_id

    def below_group(self, name: str) -> list[str]:
        """Return the keys of the finished runs that a group is made of; none without it.

        Those nested under it, and those that it shares with other groups.
        """
        known = self._groups.get(name)
        if known is None:
            return []
        shared = " ".join(v for tag, v in known.tags.items() if tag.startswith(USES)).split()
        return [
            key
            for key, run in self._runs.items()
            if run.status == "FINISHED" and (key in shared or run.tags.get(PARENT) == known.run_id)
        ]

    def group_has_ended(self, name: str) -> bool:
        """Whether a group is stored and not running."""
        known = self._groups.get(name)
        return known is not None and known.status not in ("RUNNING", "KILLED")

    def folder_of_group(self, name: str) -> Path:
        """Return the folder of a group's artifacts, made if it is not there."""
        folder = self._artifacts_of(self._groups[name].run_id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def note_use(self, name: str, keys: Sequence[str], *, step: int) -> None:
        """Note which runs a group needs at a step: one run may serve several groups."""
        tags = {f"{USES}{step}": " ".join(keys)}
        self._write(self._groups, name, tags=tags)
        group_file.change(self._artifacts_of(self._groups[name].run_id), tags=tags)

    def log_to_group(self, name: str, metrics: Mapping[str, float], *, step: int) -> None:
        """Log values of a group; a name and step that was logged before is left as it is."""
        known = self._groups[name]
        logged = self._logged.setdefault(name, set())
        now = time.time_ns() // 1_000_000
        fresh = [n for n in metrics if (n, step) not in logged]
        if known.metrics and not logged:
            logged |= self._book.history(known)
            fresh = [n for n in metrics if (n, step) not in logged]
        values = [metric(n, metrics[n], now, step) for n in fresh]
        self._write(self._groups, name, metrics=values)
        points = [(n, metrics[n], step, now) for n in fresh]
        group_file.change(self._artifacts_of(self._groups[name].run_id), points=points)
        logged |= {(n, step) for n in fresh}

    def end_group(self, name: str, status: str, tags: Mapping[str, str]) -> None:
        """Mark a group as ended."""
        self._write(self._groups, name, tags=tags, status=status)
        group_file.change(self._artifacts_of(self._groups[name].run_id), status=status, tags=tags)

    def searches(self) -> tuple[str, ...]:
        """Return the names of the stored searches."""
        parts = (name.split("/") for name in self._groups)
        return tuple(sorted(part[1] for part in parts if part[0] == "search" and len(part) == 2))

    def _note_group(self, name: str, known: Known, params: Mapping[str, float] | None) -> None:
        above = [n for n, each in self._groups.items() if each.run_id == known.tags.get(PARENT)]
        group = group_file.Group(
            name=name,
            title=known.name,
            started_ms=known.started_ms,
            tags={tag: value for tag, value in known.tags.items() if tag.startswith(OURS)},
            above=above[0] if above else None,
            params=params or {},
        )
        group_file.write(group, self._artifacts_of(known.run_id))

    def _adopt_groups(self, folders: Sequence[Path]) -> None:
        """Make MLflow runs of the groups that lost theirs, with all that was logged to them."""
        described = [(found, folder) for folder in folders if (found := group_file.read(folder))]
        for found, folder in sorted(described, key=lambda each: each[0].name.count("/")):
            if found.name not in self._groups:
                self._groups[found.name] = self._again(found)
                self._move_artifacts(folder, self._groups[found.name])

    def _again(self, found: group_file.Group) -> Known:
        above = self._groups.get(found.above or "")
        tags = {**found.tags, KIND: "group", GROUP: found.name}
        tags |= {PARENT: above.run_id} if above else {}
        return self._book.write(
            self._book.create(found.title, tags, found.started_ms),
            metrics=[metric(name, value, at, step) for name, value, step, at in found.points],
            last={name: value for name, value, _, _ in found.points},
            params=found.params,
            status="KILLED" if found.status == "RUNNING" else found.status,
        )
