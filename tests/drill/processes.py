"""The processes of a driver, by what they are: whom a blow can hit, and what is left of them."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One process, told from a later one of the same number by when it began."""

    pid: int
    born: str
    parent: int
    title: str

    @property
    def kind(self) -> str:
        """What of a sweep it is: a worker, Ray's raylet or GCS, or something else."""
        if self.title.startswith("ray::"):
            return "worker"
        name = Path(self.title).name
        return {"raylet": "raylet", "gcs_server": "gcs"}.get(name, "other")

    def alive(self) -> bool:
        """Whether it still runs, and is no zombie."""
        now = _read(self.pid)
        return now is not None and now.born == self.born

    def send(self, number: int) -> bool:
        """Send a signal; whether there was anybody to take it."""
        with suppress(ProcessLookupError):
            if self.alive():
                os.kill(self.pid, number)
                return True
        return False

    def pause(self, seconds: float) -> bool:
        """Stop it for a while, as a machine that swaps or sleeps does."""
        if not self.send(signal.SIGSTOP):
            return False
        time.sleep(seconds)
        self.send(signal.SIGCONT)
        return True


def descendants(pid: int) -> list[Process]:
    """Return every process below another, in no order."""
    found = [_read(int(each.name)) for each in Path("/proc").glob("[0-9]*")]
    below: dict[int, list[Process]] = {}
    for each in found:
        if each is not None:
            below.setdefault(each.parent, []).append(each)
    family, next_ones = [], below.get(pid, [])
    while next_ones:
        family += next_ones
        next_ones = [child for each in next_ones for child in below.get(each.pid, [])]
    return family


def _read(pid: int) -> Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    if fields[0] == "Z":
        return None
    return Process(pid, fields[19], int(fields[1]), command.decode("utf-8", "replace"))
