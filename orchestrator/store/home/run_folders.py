"""The folders of runs in a home: attempts, checkpoints, artifacts; on disk, and where they are mirrored.

Nothing here knows of the tracking database. Every step may be cut short and done again.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.store.home.attempts import LABELS, Attempt, read_result
from orchestrator.store.home.home import Home
from trainables.atomic_files import flush
from trainables.result import Result


class RunFolders:
    """Where runs leave what they leave, and how it comes to where MLflow looks for it."""

    def __init__(self, home: Home) -> None:
        self._home, self._mirror = home, home.mirror

    def attempt(self, key: str, number: int, run_id: str) -> Attempt:
        """Return where an attempt reads and writes."""
        return Attempt(
            key=key,
            number=number,
            run_id=run_id,
            artifacts=self._home.attempts / key / str(number),
            checkpoints=self._home.checkpoints / key,
            log=self._home.logs / f"{key}-{number}.log",
        )

    def numbers(self, key: str) -> Iterator[int]:
        """Yield the numbers of attempts that left a folder."""
        with suppress(FileNotFoundError):
            yield from (int(n) for n in os.listdir(self._home.attempts / key) if n.isdigit())

    def begin(self, attempt: Attempt) -> None:
        """Make the folders that a worker fills."""
        for folder in (attempt.artifacts, attempt.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)

    def artifacts_of(self, run_id: str) -> Path:
        """Return the folder in which MLflow looks for the artifacts of a run."""
        return self._home.artifacts / run_id / "artifacts"

    def unknown(self, known: Iterable[str]) -> list[Path]:
        """Return the artifact folders of all runs but these."""
        ids = set(known)
        return sorted(
            path / "artifacts" for path in self._home.artifacts.iterdir() if path.name not in ids
        )

    def bring(self, attempt: Attempt) -> None:
        """Have what a worker left in an object store here, but for what is large."""
        if self._mirror is not None:
            self._mirror.bring_folder(attempt.artifacts)

    def result(self, folder: Path, key: str) -> Result | None:
        """Return the result in a folder if it is that run's and every artifact is as written."""
        if self._mirror is None:
            return read_result(folder, key)
        return read_result(folder, key, elsewhere=self._mirror.size_of)

    def publish(self, attempt: Attempt, destination: Path, labels: Mapping[str, Any]) -> None:
        """Move an attempt's folder to where MLflow looks.

        Args:
            labels: what the tracking database knows of the run, in case that it is lost.
        """
        (attempt.artifacts / LABELS).write_text(json.dumps(labels, indent=1), encoding="utf-8")
        if self._mirror is not None:
            self._mirror.carry(attempt.artifacts / LABELS)
        _to_disk(attempt.artifacts)
        self.move(attempt.artifacts, destination)
        flush(destination.parent)

    def move(self, folder: Path, destination: Path) -> None:
        """Move a folder in place of another; here it is one rename."""
        if self._mirror is not None:
            self._mirror.move(folder, destination)
        shutil.rmtree(destination, ignore_errors=True)
        destination.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(destination)

    def keep_log(self, attempt: Attempt, folder: Path, more: str) -> None:
        """Make the log of an attempt that failed an artifact, with something more at its end."""
        if self._mirror is not None:
            with suppress(OSError):  # A log that cannot be had is no reason to stop a sweep.
                self._mirror.bring(attempt.log)
        if more:
            with attempt.log.open("a", encoding="utf-8") as log:
                log.write(f"\n{more}\n")
        if attempt.log.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(attempt.log, folder / f"attempt-{attempt.number}.log")

    def has(self, folder: Path) -> bool:
        """Return whether there is a folder, here or where runs left it."""
        return folder.is_dir() or (self._mirror is not None and self._mirror.has_folder(folder))

    def remove(self, folder: Path) -> None:
        """Remove a folder with all that is in it."""
        if self._mirror is not None:
            self._mirror.drop(folder)
        shutil.rmtree(folder, ignore_errors=True)

    def tidy(self, key: str) -> None:
        """Remove what only an unfinished run needs."""
        for folder in (self._home.checkpoints / key, self._home.attempts / key):
            if folder.exists():
                self.remove(folder)


def _to_disk(folder: Path) -> None:
    """Flush an attempt's files: a result must not outlive a power cut that its artifacts did not."""
    for path in [*folder.rglob("*"), folder]:
        flush(path)
