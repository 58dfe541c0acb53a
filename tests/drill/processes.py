"""The processes of a driver, by what they are: whom a blow can hit, and what is left of them."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One process, told from a later one of the same number by when it began."""

    pid: int
    born: str
    parent: int = field(compare=False)
    title: str = field(compare=False)
    command: bytes = field(compare=False)
    """With all arguments."""

    @property
    def kind(self) -> str:
        """What of a sweep it is: a worker, Ray's raylet, GCS or an agent, or something else."""
        if self.title.startswith("ray::"):
            return "agent" if self.title.endswith("Agent") else "worker"
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

    def stop(self) -> bool:
        """Have it stand still; whether there was anybody who could."""
        return self.send(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self.send(signal.SIGCONT)


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


def forks(pid: int) -> list[Process]:
    """Return the children of a process that are copies of it: they read images, or draw figures."""
    itself = _read(pid)
    return [
        each
        for each in descendants(pid)
        if itself is not None and each.parent == pid and each.command == itself.command
    ]


def _read(pid: int) -> Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    if fields[0] == "Z":
        return None
    title = command.split(b"\0")[0].decode("utf-8", "replace")
    return Process(pid, fields[19], int(fields[1]), title, command)
