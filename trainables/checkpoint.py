"""Checkpoints of one run: atomic, checksummed, newest two kept.

A checkpoint is `<update>.pt` and, written after it, `<update>.json` with its size and SHA-256. One
without a matching JSON file does not exist: a process killed while writing, a torn file and a
flipped bit all fall back to the checkpoint before. `torch.load` alone notices none of the three.
The payload holds tensors, numbers, strings, lists and dicts only and is read without unpickling.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from trainables.atomic_files import temporary_beside, write_atomically

KEPT = 2  # The newest, and the one to fall back to.
NAME = re.compile(r"(\d{9})\.json")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save(folder: Path, update: int, state: dict[str, Any]) -> None:
    """Store `state` as the checkpoint of `update`, then drop all but the newest `KEPT`."""
    folder.mkdir(parents=True, exist_ok=True)
    payload = folder / files_of(update)[0]
    temporary = temporary_beside(payload)
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    record = {"bytes": temporary.stat().st_size, "sha256": sha256_of(temporary)}
    temporary.rename(payload)
    write_atomically(payload.with_suffix(".json"), json.dumps(record).encode())
    _drop_old(folder)


def load_newest(folder: Path) -> dict[str, Any] | None:
    """Return the newest checkpoint that is whole, or None if there is none.

    Its tensors are on the CPU, wherever they were: the states of random streams have to be, and a
    GPU need not hold everything twice.
    """
    for update in reversed(saved_updates(folder)):
        if is_whole(folder, update):
            payload = folder / files_of(update)[0]
            state: dict[str, Any] = torch.load(payload, map_location="cpu", weights_only=True)
            return state
    return None


def saved_updates(folder: Path) -> list[int]:
    """Return the updates that have a checkpoint, oldest first, whole or not."""
    if not folder.is_dir():
        return []
    return updates_in(path.name for path in folder.iterdir())


def updates_in(names: Iterable[str]) -> list[int]:
    """Return the updates that have a checkpoint among files of these names, oldest first."""
    return sorted(int(match[1]) for name in names if (match := NAME.fullmatch(name)))


def files_of(update: int) -> tuple[str, str]:
    """Return the names of a checkpoint's payload and, written after it, of its record."""
    return f"{update:09}.pt", f"{update:09}.json"


def is_whole(folder: Path, update: int) -> bool:
    """Return whether the checkpoint of an update is as it was written."""
    payload, record = (folder / name for name in files_of(update))
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        found = {"bytes": payload.stat().st_size, "sha256": sha256_of(payload)}
    except (OSError, ValueError):
        return False
    return bool(found == known)


def _drop_old(folder: Path) -> None:
    for update in saved_updates(folder)[:-KEPT]:
        payload, record = files_of(update)
        # The record first: a payload without one does not exist, the reverse would be torn.
        (folder / record).unlink()
        (folder / payload).unlink(missing_ok=True)
