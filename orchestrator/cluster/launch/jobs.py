"""Sweeps as jobs of a cluster: `hdsweep` run on the head, told of here, and left alone if we go away."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.cluster.launch.head import Head, LostConnectionError
from orchestrator.errors import InputError, UnknownNameError
from orchestrator.process.stopping import Say

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # Part of file names on the head.
TRIES, PAUSE_S = 60, 5.0  # To get back to a head whose connection broke: five minutes.


@dataclass(frozen=True)
class End:
    """How a job ended, or how it stands."""

    state: str
    exit_code: int | None
    """That of `hdsweep`; None if it has not ended, or not by itself."""
    why: str

    @property
    def status(self) -> int:
        """The exit status to pass on."""
        if self.state in ("PENDING", "RUNNING", "SUCCEEDED"):
            return 0
        if self.exit_code is None:
            return 1
        return 128 - self.exit_code if self.exit_code < 0 else self.exit_code or 1


def submit(head: Head, job: str, arguments: Sequence[str], *, needs_home: bool) -> None:
    """Start `hdsweep` with these arguments on the head, as a job of this name.

    Args:
        needs_home: whether the machines need a home that they share, and the arguments name none.

    Raises:
        InputError: if the name cannot be one.
        HdsweepError: if there is such a job already, or no shared home.
    """
    if not NAME.fullmatch(job):
        raise InputError(f"--name {job}: letters, digits, `.`, `_` and `-` only, at most 63")
    head.ask("submit", job=job, arguments=list(arguments), needs_home=needs_home)


def name_of(arguments: Sequence[str], now: float) -> str:
    """Return a name for a job: what it does, and when it was started."""
    words = [part for part in arguments[:2] if not part.startswith("-")]
    what = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(words)).strip("-")[:40]
    return f"{what}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}"


def follow(
    head: Head, job: str, out: Callable[[str], None], say: Say, *, until_end: bool = True
) -> End:
    """Pass on what a job prints, and return how it ended.

    A connection that breaks is made again; the job knows nothing of it.

    Args:
        out: takes the output, in pieces.
        until_end: wait for more until the job ends; else return with what there is.
    """
    printed, tries = 0, 0
    while True:
        try:
            for answer in head.listen("follow", job=job, skip=printed, until_end=until_end):
                if "state" in answer:
                    return End(answer["state"], answer["exit"], answer["why"] or "")
                printed, tries = printed + len(answer["output"]), 0
                out(answer["output"])
        except LostConnectionError as error:
            tries += 1
            if tries > TRIES or not until_end:
                raise
            if tries == 1:
                say(f"{error}; trying again, job `{job}` goes on")
        time.sleep(PAUSE_S)


def find(head: Head, job: str | None) -> str:
    """Return the name of a job, of the newest if none is given.

    Raises:
        UnknownNameError: if there is no such job.
        InputError: if there is none at all.
    """
    known: list[str] = [each["job"] for each in head.ask("jobs")["jobs"]]
    if not known:
        raise InputError(f"no job was submitted to {head.address}")
    if job is not None and job not in known:
        raise UnknownNameError("job", job, known, where=head.address)
    return job or known[0]


def status(head: Head) -> dict[str, Any]:
    """Return the nodes, the jobs and what the autoscaler says, for machines."""
    return {"head": head.address, **head.ask("status")}
