"""What a drill does to a sweep: each blow says whom it hit, or nothing where there was nobody to hit.

A blow that lasts, such as a full disk, is undone later: others fall meanwhile.
"""

import os
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.drill.clock import Clock
from tests.drill.deck import Deck
from tests.drill.processes import Process, descendants, forks

KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
BALLAST = "ballast"
PIECE = b"\0" * 2**16
CLOCK_STEP_S = 3600
PAUSES_S = {0.3: 4, 0.5: 4, 1.0: 6, 2.0: 6, 5.0: 2}
LONG_PAUSES_S = {60.0: 1}
REFUSED, IN_USE = 2, "used by another"


@dataclass
class Scene:
    """A command under way, and what can be done to it."""

    random: Random
    home: Path
    driver: subprocess.Popen[bytes]
    again: Callable[[], "subprocess.CompletedProcess[bytes]"]
    """Calls the same command a second time, and waits for its end."""
    clock: Clock | None
    """None where the clock is the machine's."""
    pauses: Deck[float]
    """For how long things last."""
    lasting: list["Lasting"]
    """What lasts."""
    problems: list[str] = field(default_factory=list)

    def one(self, kind: str) -> Process | None:
        """Return a process of a kind; None if there is none."""
        below = descendants(self.driver.pid)
        found = sorted((p for p in below if p.kind == kind), key=lambda p: p.pid)
        return self.random.choice(found) if found else None

    def for_a_while(self, undo: Callable[[], object]) -> str:
        """Undo something after a while; return for how long it lasts, in words."""
        (seconds,) = self.pauses.deal(1)
        self.lasting.append(Lasting(seconds, undo))
        return f"for {seconds} s"


class Lasting:
    """Something that is undone after a while, or as soon as that is waited for."""

    def __init__(self, seconds: float, undo: Callable[[], object]) -> None:
        self._timer = threading.Timer(seconds, undo)
        self._timer.start()

    @property
    def over(self) -> bool:
        """Whether it was undone."""
        return not self._timer.is_alive()

    def wait(self) -> None:
        """Wait until it is undone."""
        self._timer.join()


Strike = Callable[[Scene], str | None]


def _to_driver(number: int) -> Strike:
    def strike(scene: Scene) -> str | None:
        scene.driver.send_signal(number)
        return f"driver {scene.driver.pid}"

    return strike


def _to_group(number: int) -> Strike:
    def strike(scene: Scene) -> str | None:
        with suppress(ProcessLookupError):
            os.killpg(scene.driver.pid, number)
        return f"group {scene.driver.pid}"

    return strike


def _to(kind: str, number: int) -> Strike:
    def strike(scene: Scene) -> str | None:
        return _sent(scene.one(kind), number)

    return strike


def _to_reader(number: int) -> Strike:
    def strike(scene: Scene) -> str | None:
        found = sorted(forks(scene.driver.pid), key=lambda p: p.pid)
        return _sent(scene.random.choice(found) if found else None, number)

    return strike


def _sent(process: Process | None, number: int) -> str | None:
    done = process is not None and process.send(number)
    return f"{process.title} {process.pid}" if process is not None and done else None


def _stopped(kind: str) -> Strike:
    def strike(scene: Scene) -> str | None:
        process = scene.one(kind)
        if process is None or not process.stop():
            return None
        return f"{process.title} {scene.for_a_while(process.go_on)}"

    return strike


def _reader_stopped(scene: Scene) -> str | None:
    found = sorted(forks(scene.driver.pid), key=lambda p: p.pid)
    process = scene.random.choice(found) if found else None
    if process is None or not process.stop():
        return None
    return scene.for_a_while(process.go_on)


def _driver_stopped(scene: Scene) -> str:
    scene.driver.send_signal(signal.SIGSTOP)
    return scene.for_a_while(lambda: scene.driver.send_signal(signal.SIGCONT))


def _disk_full(scene: Scene) -> str | None:
    ballast = scene.home.parent / BALLAST
    if ballast.exists():
        return None  # It still is.
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(PIECE)
    return scene.for_a_while(lambda: ballast.unlink(missing_ok=True))


def _database_locked(scene: Scene) -> str | None:
    path = scene.home / "mlflow.db"
    if not path.is_file():
        return None
    # It is let go of by another thread.
    database = sqlite3.connect(path, timeout=2, isolation_level=None, check_same_thread=False)
    try:
        database.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error:
        database.close()
        return None  # The sweep was quicker, or has no whole database yet, or it is locked.

    def let_go() -> None:
        with closing(database), suppress(sqlite3.Error):
            database.execute("ROLLBACK")

    return scene.for_a_while(let_go)


def _some_file(scene: Scene) -> Path | None:
    patterns = ("artifacts/*/artifacts/*", "checkpoints/*/*/*", "datasets/*/data.arrow")
    files = [p for each in patterns for p in sorted(scene.home.glob(each)) if p.is_file()]
    return scene.random.choice(files) if files else None


def _file_away(scene: Scene) -> str | None:
    """Rename a file away for a while, as root may read whatever permissions say."""
    file = _some_file(scene)
    aside = scene.home.parent / f"aside-{scene.random.getrandbits(32)}"
    if file is None:
        return None
    try:
        file.rename(aside)
    except OSError:
        return None  # It was removed meanwhile, or is covered.

    def bring_back() -> None:
        if not file.exists():  # Or what came in its place is the newer.
            with suppress(OSError):  # Its folder may have been removed.
                aside.rename(file)
        aside.unlink(missing_ok=True)

    return f"{file.relative_to(scene.home)} {scene.for_a_while(bring_back)}"


def _file_covered(scene: Scene) -> str | None:
    """Mount what cannot be read over one of the files: permissions would not stop root."""
    file = _some_file(scene)
    if file is None:
        return None
    # The memory of a process from its start, where nothing is: reading it is an I/O error.
    mount = ["mount", "--bind", f"/proc/{os.getpid()}/mem", file]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        return None
    unmount = ["umount", "--lazy", file]
    while_there = scene.for_a_while(
        lambda: subprocess.run(unmount, check=False, capture_output=True)
    )
    return f"{file.relative_to(scene.home)} {while_there}"


def _run_deleted(scene: Scene) -> str | None:
    """Delete a run as the MLflow UI does."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    database = scene.home / "mlflow.db"
    if not database.is_file():
        return None
    try:
        client = MlflowClient(tracking_uri=f"sqlite:///{database}")
        found = client.search_experiments()
        runs = client.search_runs([each.experiment_id for each in found], max_results=1000)
        run = scene.random.choice(runs) if runs else None
        if run is not None:
            client.delete_run(run.info.run_id)
    except MlflowException:
        return None
    return run and f"{run.data.tags.get('hdsweep.kind', '?')} {run.info.run_id}"


def _clock_back(scene: Scene) -> str | None:
    assert scene.clock is not None, "only dealt where the clock is not the machine's"
    scene.clock.move(-CLOCK_STEP_S)
    return f"by {CLOCK_STEP_S} s"


def _second_driver(scene: Scene) -> str | None:
    done = scene.again()
    said = done.stderr.decode("utf-8", "replace")
    refused = done.returncode == REFUSED and IN_USE in said
    alone = scene.driver.poll() is not None
    if not refused and not alone:
        scene.problems.append(f"a second driver ended with {done.returncode}: {said[-500:]}")
    return "refused" if refused else f"ended with {done.returncode}"


@dataclass(frozen=True)
class Blow:
    """A kind of blow."""

    strike: Strike
    count: int = 4
    """How often it is in a deck; what makes a driver start again takes the longest, and is in it once."""
    needs: str = ""
    """What of a subject, or of the circumstances, it takes."""


TRAINING, READING, SMALL_DISK, CLOCK, MOUNTS = (
    "training",
    "reading",
    "small disk",
    "clock",
    "mounts",
)
BLOWS: dict[str, Blow] = {
    "driver SIGKILL": Blow(_to_driver(KILL), 1),
    "driver SIGTERM": Blow(_to_driver(TERM), 1),
    "driver SIGINT": Blow(_to_driver(INT), 1),
    "driver SIGSTOP": Blow(_driver_stopped),
    "group SIGKILL": Blow(_to_group(KILL), 1),
    "group SIGTERM": Blow(_to_group(TERM), 1),
    "group SIGINT": Blow(_to_group(INT), 1),
    "worker SIGKILL": Blow(_to("worker", KILL), 4, TRAINING),
    "worker SIGTERM": Blow(_to("worker", TERM), 4, TRAINING),
    "worker SIGINT": Blow(_to("worker", INT), 4, TRAINING),
    "worker SIGSTOP": Blow(_stopped("worker"), 4, TRAINING),
    "agent SIGKILL": Blow(_to("agent", KILL), 1, TRAINING),
    "raylet SIGKILL": Blow(_to("raylet", KILL), 1, TRAINING),
    "raylet SIGSTOP": Blow(_stopped("raylet"), 4, TRAINING),
    "GCS SIGKILL": Blow(_to("gcs", KILL), 1, TRAINING),
    "GCS SIGSTOP": Blow(_stopped("gcs"), 4, TRAINING),
    "reader SIGKILL": Blow(_to_reader(KILL), 2, READING),
    "reader SIGTERM": Blow(_to_reader(TERM), 2, READING),
    "reader SIGSTOP": Blow(_reader_stopped, 2, READING),
    "disk full": Blow(_disk_full, 4, SMALL_DISK),
    "database locked": Blow(_database_locked, 4, TRAINING),
    "file renamed away": Blow(_file_away),
    "file unreadable": Blow(_file_covered, 4, MOUNTS),
    "run deleted in MLflow": Blow(_run_deleted, 4, TRAINING),
    "clock set back": Blow(_clock_back, 4, CLOCK),
    "second driver": Blow(_second_driver, 2, TRAINING),
}
