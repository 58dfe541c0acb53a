"""One episode of a drill: a sweep or a search under blows, and whether it ended as if there were none."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.command_line import command
from tests.drill.blows import BLOWS, IN_USE, REFUSED, Scene
from tests.drill.processes import Process, descendants
from tests.end_to_end.processes import WORKERS

SMOKE = ("--scale", "smoke")
RETRIES = ("--retries", 100)
LEFT_S = 60.0  # By when nothing may be left of a driver that is gone.
HUNG_S = 300.0  # Without a run finished and without an end.
STARTS = 40
LEAST_DELAY_S, MOST_DELAY_S = 0.1, 5.0
AT_WORK_ODDS, STARTED_S = 0.8, 90.0
ENDS = {0, 1, REFUSED, 128 + signal.SIGINT, 128 + signal.SIGTERM}


@dataclass(frozen=True)
class Subject:
    """What is run: a command, and how its outcome is read."""

    name: str
    arguments: tuple[object, ...]
    outcome: Callable[[Path], bytes]

    def command(self, home: Path) -> list[str]:
        """Return the whole command."""
        told = (*self.arguments, *RETRIES, "--json", "--home", home)
        return [sys.executable, "-m", "orchestrator", *map(str, told)]


def _table(home: Path) -> bytes:
    """Return the table and all it says, but when and in how many sessions it was made."""
    told = json.loads(_told("report", "table2", *SMOKE, *CELLS, home=home))
    del told["made"]
    return json.dumps(told).encode()


def _search(home: Path) -> bytes:
    """Return what a search found, without how long it took; nothing is left to train."""
    told = json.loads(_told(*SEARCH, home=home).splitlines()[-1])
    assert told["trained"] == 0, told
    kept = ("trials", "complete", "pruned", "best", "value", "updates")
    return json.dumps({name: told[name] for name in kept}).encode()


def _told(*arguments: object, home: Path) -> bytes:
    done = subprocess.run(
        command(*arguments, "--json", "--home", home),
        check=False,
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:].decode("utf-8", "replace")
    return done.stdout


# Four pretrainings of a second or more, so that blows meet training, and twelve fine-tunings.
CELLS = ("--methods", "hybrid_ft,diffusion_ledm,scratch_adm", "--targets", "ph2,montgomery")
CELLS += ("--seeds", "0,1")
CELLS += ("--set", "pretraining.updates=300", "--set", "pretraining.log_every=10")
SEARCH = ("tune", "lambda", "--source", "isic2018", "--targets", "ph2", "--seeds", 1, *SMOKE)
SEARCH += ("--set", "pretraining.updates=135", "--trials", 4, "--workers", 1)
SUBJECTS = (
    Subject("sweep", ("run", "table2", *SMOKE, *CELLS), _table),
    Subject("search", SEARCH, _search),
)


@dataclass
class Episode:
    """What an episode came to."""

    number: int
    subject: str
    blows: dict[str, int] = field(default_factory=dict)
    starts: int = 0
    identical: bool = False
    redone: int = 0
    """Updates done again, as the store has them."""
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Conditions:
    """Under which circumstances an episode goes on."""

    scratch: Path
    small_disk: bool = False
    clock_library: Path | None = None
    root: bool = False
    long_pauses: bool = False


class Disturbed:
    """A command that is struck, started again whenever it has ended, until it is through."""

    def __init__(
        self,
        episode: Episode,
        subject: Subject,
        conditions: Conditions,
        random: Random,
        log: Callable[..., None],
    ) -> None:
        self._episode, self._subject, self._conditions = episode, subject, conditions
        self._random, self._log = random, log
        self.home = conditions.scratch / "disk" / "home"
        self._errors = conditions.scratch / f"stderr-{episode.number}.txt"
        self._clock = conditions.scratch / "clock" if conditions.clock_library else None
        if self._clock:
            self._clock.write_text("+0\n", encoding="utf-8")
        self._seen: set[Process] = set()
        self._driver = self._start()

    def strike(self, names: Sequence[str]) -> None:
        """Strike once with each, as long as there is something to strike."""
        for name in names:
            at_work = self._random.random() < AT_WORK_ODDS
            delay = self._random.uniform(LEAST_DELAY_S, MOST_DELAY_S)
            ended = (at_work and self._ended_before_work()) or self._ended_within(delay)
            if ended and not self._again():
                return
            scene = self._scene()
            note = BLOWS[name](scene)
            self._episode.problems += scene.problems
            if note is not None:
                self._episode.blows[name] = self._episode.blows.get(name, 0) + 1
            self._log("blow" if note is not None else "missed", blow=name, note=note or "")

    def to_the_end(self) -> None:
        """Let it come to its end, starting it again as a person would."""
        while True:
            quiet, before = 0.0, -1
            while not self._ended_within(1.0):
                now = len(list(self.home.glob("artifacts/*/artifacts/result.json")))
                quiet, before = (quiet + 1.0 if now == before else 0.0), now
                if quiet > HUNG_S:
                    self._problem(f"hung for {HUNG_S:.0f} s: {self._said()}")
                    self._kill_all()
                    quiet = 0.0
            if not self._again():
                return

    def left(self) -> None:
        """Note what is left of the processes that were ever seen."""
        deadline = time.monotonic() + LEFT_S
        while (alive := [p for p in self._seen if p.alive()]) and time.monotonic() < deadline:
            time.sleep(0.5)
        for process in alive:
            self._problem(f"left behind: {process.title} {process.pid}")
            process.send(signal.SIGKILL)
        folders = sorted(str(p) for p in Path("/tmp").glob("hdsweep-*"))
        if folders and self._conditions.root:  # Then /tmp is the drill's own.
            self._problem(f"left behind: {folders}")

    def close(self) -> None:
        """End whatever there still is; nothing, unless the drill itself was cut short."""
        self._kill_all()

    def _scene(self) -> Scene:
        return Scene(
            random=self._random,
            home=self.home,
            driver=self._driver,
            again=lambda: subprocess.run(
                self._subject.command(self.home),
                check=False,
                capture_output=True,
                env=self._environment(),
                timeout=900,
            ),
            clock=self._clock,
            small_disk=self._conditions.small_disk,
            root=self._conditions.root,
            long_pauses=self._conditions.long_pauses,
        )

    def _start(self) -> "subprocess.Popen[bytes]":
        self._episode.starts += 1
        with self._errors.open("ab") as errors:
            self._began = errors.tell()
            return subprocess.Popen(
                self._subject.command(self.home),
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
                env=self._environment(),
            )

    def _environment(self) -> dict[str, str]:
        found = dict(os.environ, OMP_NUM_THREADS="1")
        if self._clock:
            found |= {
                "LD_PRELOAD": str(self._conditions.clock_library),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        return found

    def _ended_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._driver.poll() is None:
            self._seen.update(descendants(self._driver.pid))
            if (left := deadline - time.monotonic()) <= 0:
                return False
            time.sleep(min(left, 0.25))
        return True

    def _ended_before_work(self) -> bool:
        """Wait until workers train, most of a driver's start being idle; whether it ended before."""
        deadline = time.monotonic() + STARTED_S
        while time.monotonic() < deadline:
            if self._ended_within(0.5):
                return True
            if any(p.title.startswith(WORKERS) for p in descendants(self._driver.pid)):
                return False
        return False

    def _again(self) -> bool:
        """Look at how it ended, and start it again; whether it had to be."""
        status, said = self._driver.returncode, self._said()
        self._log("ended", status=status, said=said[-300:])
        if "Traceback" in said:
            self._problem(f"a traceback, status {status}: {said[-1500:]}")
        if status >= 0 and status not in ENDS:
            self._problem(f"status {status}: {said[-500:]}")
        if status == 0:
            return False
        if self._episode.starts >= STARTS:
            self._problem(f"not through after {STARTS} starts: {said[-1500:]}")
            return False
        if status == REFUSED and IN_USE in said:
            time.sleep(1.0)
        self._driver = self._start()
        return True

    def _said(self) -> str:
        content = self._errors.read_bytes()[self._began :]
        return content.decode("utf-8", "replace")

    def _problem(self, what: str) -> None:
        self._episode.problems.append(what)
        self._log("broken", what=what)

    def _kill_all(self) -> None:
        family = descendants(self._driver.pid)
        self._driver.kill()
        for process in family:
            process.send(signal.SIGKILL)


def play(
    number: int,
    subject: Subject,
    names: Sequence[str],
    expected: bytes,
    conditions: Conditions,
    random: Random,
    log: Callable[..., None],
) -> Episode:
    """Play one episode, and return what it came to."""
    episode, began = Episode(number, subject.name), time.monotonic()
    disturbed = Disturbed(episode, subject, conditions, random, log)
    try:
        disturbed.strike(names)
        disturbed.to_the_end()
        disturbed.left()
    finally:
        disturbed.close()
    try:
        found = subject.outcome(disturbed.home)
    except AssertionError as error:
        found = b""
        episode.problems.append(f"no outcome: {error}")
    episode.identical = found == expected
    if not episode.identical:
        episode.problems.append(f"the outcome is another: {_first_difference(expected, found)}")
    episode.redone = updates_redone(disturbed.home)
    episode.seconds = time.monotonic() - began
    return episode


def _first_difference(expected: bytes, found: bytes) -> str:
    pairs = enumerate(zip(expected, found, strict=False))
    at = next((i for i, (one, other) in pairs if one != other), 0)
    around = slice(max(0, at - 100), at + 100)
    return f"{expected[around].decode()} became {found[around].decode()}"


def updates_redone(home: Path) -> int:
    """Return the updates that were done again, of all runs of a home."""
    query = "select value from tags where key = 'hdsweep.updates_redone'"
    with suppress(sqlite3.Error), closing(sqlite3.connect(home / "mlflow.db")) as database:
        return sum(int(value) for (value,) in database.execute(query))
    return 0


def undisturbed(subject: Subject, home: Path) -> bytes:
    """Return what a command comes to if it is left alone."""
    done: Any = subprocess.run(
        subject.command(home), check=False, capture_output=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr[-3000:].decode("utf-8", "replace")
    return subject.outcome(home)
