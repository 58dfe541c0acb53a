"""Who drives a home in an object store: the lock of a folder does not reach other machines.

A lease is an object that its holder writes anew every half minute. Whoever finds one that was not
renewed for two minutes, by the store's own clock, may take it; one of a driver that died on this very
machine at once. A driver that cannot renew its lease stops writing before another may take it.

Object stores in general offer no exclusive creation, so who takes a lease looks once more after a moment.
Between that look and the next renewal two drivers that start within the same seconds could both go on;
each renewal looks first, and the one that finds another's token gives up.
"""

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.errors import HdsweepError, InputError
from orchestrator.process.invocation import begun
from trainables.storage import Storage

NAME = "lease.json"
RENEW_SECONDS, STALE_SECONDS = 30.0, 120.0
SETTLE_SECONDS = 1.0  # For another that takes the lease in the same moment to have written.
NANOSECONDS = 1e9


class LeaseLostError(HdsweepError):
    """Another driver took the home over, or the store could not be told for too long that we live."""


class Lease:
    """The right to write to a home in an object store."""

    def __init__(self, storage: Storage, who: Mapping[str, str]) -> None:
        self._storage, self._who = storage, dict(who)
        self._token = secrets.token_hex(16)
        self._renewed_at = time.monotonic()
        self._taken_by_other = False
        self._ended = threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease, renewed by a thread.

        Raises:
            InputError: if another driver holds it.
            OSError: if the store refuses or is not to be reached.
        """
        self._take()
        renewing = threading.Thread(target=self._keep_renewing, daemon=True)
        renewing.start()
        try:
            yield
        finally:
            self._ended.set()
            renewing.join()
            with contextlib.suppress(OSError):  # It goes stale by itself.
                if self._found().get("token") == self._token:
                    self._storage.remove(NAME)

    def require(self) -> None:
        """Raise a LeaseLostError unless nobody else can have taken the lease."""
        unheard = time.monotonic() - self._renewed_at
        if self._taken_by_other or unheard > STALE_SECONDS - RENEW_SECONDS:
            why = "another driver took it over" if self._taken_by_other else "it does not answer"
            raise LeaseLostError(
                f"the home `{self._storage.shown}` is not ours to write any more: {why}",
                hint="the same command again goes on from what is stored",
            )

    def _take(self) -> None:
        found = self._found()
        if found and not self._is_left(found):
            raise taken(self._storage.shown, found)
        self._write()
        time.sleep(SETTLE_SECONDS)
        found = self._found()
        if found.get("token") != self._token:
            raise taken(self._storage.shown, found)

    def _is_left(self, found: Mapping[str, str]) -> bool:
        """Return whether the holder is gone: it died on this machine, or was silent for too long."""
        here = all(found.get(name) == self._who[name] for name in ("host", "boot", "pids"))
        if here and not Path(f"/proc/{found.get('pid')}").exists():
            return True
        renewed, probe = self._storage.one(NAME), f"lease-{self._token}"
        self._storage.write(probe, b"what time is it?")
        now = self._storage.one(probe)
        self._storage.remove(probe)
        if renewed is None or now is None:
            return renewed is None
        return (now.modified_ns - renewed.modified_ns) / NANOSECONDS > STALE_SECONDS

    def _keep_renewing(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            with contextlib.suppress(OSError):  # Tried again; `require` knows when it is too late.
                if self._found().get("token", self._token) != self._token:
                    self._taken_by_other = True
                    return
                self._write()

    def _write(self) -> None:
        began = time.monotonic()
        self._storage.write(NAME, json.dumps({**self._who, "token": self._token}).encode())
        self._renewed_at = began

    def _found(self) -> dict[str, Any]:
        return read_lease(self._storage)


def read_lease(storage: Storage) -> dict[str, Any]:
    """Return what the present lease of a home says of its holder; empty if there is none."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        found: dict[str, Any] = json.loads(storage.read(NAME))
        return found
    return {}


def taken(home: object, who: Mapping[str, str]) -> InputError:
    """Return the error of a home that another driver writes to."""
    described = f"process {who.get('pid', '?')} on {who.get('host', '?')}"
    return InputError(
        f"home folder `{home}` is used by another sweep: {described}, "
        f"`{who.get('command', '?')}` since {who.get('since', '?')}",
        hint="wait for it, stop it, or choose another folder with --home",
    )


def ourselves() -> dict[str, str]:
    """Return who we are, for others that want to write too."""
    return {
        "pid": str(os.getpid()),
        "host": os.uname().nodename,
        "boot": _boot(),
        "pids": _pid_namespace(),
        "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "command": begun(),
    }


def _boot() -> str:
    """Return what tells this start of the machine from others: process ids repeat after it."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return "unknown"


def _pid_namespace() -> str:
    """Return what tells the process ids of this container from those of others on the machine."""
    with contextlib.suppress(OSError):
        return Path("/proc/self/ns/pid").readlink().name
    return "unknown"
