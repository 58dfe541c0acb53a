"""One episode of a drill: a command under blows, and whether it ended as if there were none."""

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.drill.blows import (
    BLOWS,
    CLOCK,
    MOUNTS,
    READING,
    REFUSED,
    SMALL_DISK,
    TRAINING,
    Lasting,
    Scene,
)
from tests.drill.clock import Clock
from tests.drill.deck import Deck
from tests.drill.processes import Process, descendants, forks
from tests.drill.subjects import Subject
from tests.end_to_end.processes import WORKERS

LEFT_S = 60.0  # By when nothing may be left of a driver that is gone.
HUNG_S = 300.0  # Without a run finished and without an end.
STARTS, STARTS_PER_BLOW = 40, 2
DELAYS_S = {0.0: 2, 0.1: 2, 0.4: 3, 1.0: 3, 2.0: 2, 4.0: 1}
AT_WORK_ODDS, STARTED_S = 0.7, 60.0
ENDS = {0, 1, REFUSED, 128 + signal.SIGINT, 128 + signal.SIGTERM}


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
    pauses: Deck[float]
    delays: Deck[float]
    small_disk: bool = False
    clock: Clock | None = None
    root: bool = False

    def allow(self, blow: str, subject: Subject) -> bool:
        """Whether a blow can fall."""
        fulfilled = {
            "": True,
            TRAINING: subject.trains,
            READING: not subject.trains,
            SMALL_DISK: self.small_disk,
            CLOCK: self.clock is not None,
            MOUNTS: self.root,
        }
        return fulfilled[BLOWS[blow].needs]


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
        self._seen: set[Process] = set()
        self._lasting: list[Lasting] = []
        self._most_starts = STARTS + STARTS_PER_BLOW * subject.hand
        self._through = False
        self._driver = self._start()

    def strike(self, deck: Deck[str]) -> None:
        """Strike with what the deck deals; what finds nobody, or no time, goes back to it."""
        names = deck.deal(
            self._subject.hand, lambda name: self._conditions.allow(name, self._subject)
        )
        missed = []
        for place, name in enumerate(names):
            if self._over_before(name):
                missed += names[place:]
                break
            scene = self._scene()
            note = BLOWS[name].strike(scene)
            self._episode.problems += scene.problems
            if note is None:
                missed.append(name)
            else:
                self._episode.blows[name] = self._episode.blows.get(name, 0) + 1
            self._log("blow" if note is not None else "missed", blow=name, note=note or "")
        deck.put_back(missed)

    def _over_before(self, name: str) -> bool:
        """Wait for a while, or until there is somebody to strike; whether all was over before."""
        (delay,) = self._conditions.delays.deal(1)
        at_work = self._random.random() < AT_WORK_ODDS or BLOWS[name].needs in (TRAINING, READING)
        while self._ended_within(0) or (at_work and self._ended_before_work()):
            if not self._again():
                return True
        return self._ended_within(delay) and not self._again()

    def to_the_end(self) -> None:
        """Let it come to its end, starting it again as a person would."""
        while not self._through:
            quiet, before = 0.0, -1
            while not self._ended_within(1.0):
                now = len(list(self.home.glob("artifacts/*/artifacts/result.json")))
                held = not all(each.over for each in self._lasting)
                quiet, before = (quiet + 1.0 if now == before and not held else 0.0), now
                if quiet > HUNG_S:
                    self._problem(f"hung for {HUNG_S:.0f} s: {self._said()}")
                    self._kill_all()
                    quiet = 0.0
            if not self._again():
                break
        for each in self._lasting:
            each.wait()

    def left(self) -> None:
        """Note what is left of the processes that were ever seen."""
        deadline = time.monotonic() + LEFT_S
        while (alive := [p for p in self._seen if p.alive()]) and time.monotonic() < deadline:
            time.sleep(0.25)
        for process in alive:
            self._problem(f"left behind: {process.title} {process.pid}")
            process.send(signal.SIGKILL)
        folders = sorted(str(p) for p in Path("/tmp").glob("hdsweep-*"))
        if folders and self._conditions.root:  # Then /tmp is the drill's own.
            self._problem(f"left behind: {folders}")

    def close(self) -> None:
        """End whatever there still is; nothing, unless the drill itself was cut short."""
        self._kill_all()
        for each in self._lasting:
            each.wait()

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
            clock=self._conditions.clock,
            pauses=self._conditions.pauses,
            lasting=self._lasting,
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
        clock = self._conditions.clock
        return dict(os.environ, OMP_NUM_THREADS="1") | (clock.environment() if clock else {})

    def _ended_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._driver.poll() is None:
            self._seen.update(descendants(self._driver.pid))
            if (left := deadline - time.monotonic()) <= 0:
                return False
            time.sleep(min(left, 0.1))
        return True

    def _ended_before_work(self) -> bool:
        """Wait until somebody works, most of a driver's start being idle; whether it ended before."""
        deadline = time.monotonic() + STARTED_S
        while time.monotonic() < deadline:
            if self._ended_within(0.1):
                return True
            if self._at_work():
                return False
        return False

    def _at_work(self) -> bool:
        if not self._subject.trains:
            return bool(forks(self._driver.pid))
        return any(p.title.startswith(WORKERS) for p in descendants(self._driver.pid))

    def _again(self) -> bool:
        """Look at how it ended, and start it again; whether it had to be."""
        status, said = self._driver.returncode, self._said()
        self._log("ended", status=status, said=said[-300:])
        if "Traceback" in said:
            self._problem(f"a traceback, status {status}: {said[-1500:]}")
        if status >= 0 and status not in ENDS:
            self._problem(f"status {status}: {said[-500:]}")
        if status == 0:
            self._through = True
            return False
        if self._episode.starts >= self._most_starts:
            self._problem(f"not through after {self._episode.starts} starts: {said[-1500:]}")
            self._through = True
            return False
        if status in (1, REFUSED):
            time.sleep(1.0)  # What keeps it from going on may be over then.
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
    deck: Deck[str],
    expected: bytes,
    conditions: Conditions,
    random: Random,
    log: Callable[..., None],
) -> Episode:
    """Play one episode, and return what it came to."""
    episode, began = Episode(number, subject.name), time.monotonic()
    disturbed = Disturbed(episode, subject, conditions, random, log)
    try:
        disturbed.strike(deck)
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
