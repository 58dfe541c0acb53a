"""What a drill does to a sweep: each blow says whom it hit, or nothing where there was nobody to hit."""

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.drill.processes import Process, descendants

KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
BALLAST = "ballast"
PIECE = b"\0" * 2**16
CLOCK_STEP_S = 3600
LONG_PAUSE_S, LONG_ODDS = 60.0, 0.15
REFUSED, IN_USE = 2, "used by another sweep"


@dataclass
class Scene:
    """A sweep under way, and what can be done to it."""

    random: Random
    home: Path
    driver: subprocess.Popen[bytes]
    again: Callable[[], "subprocess.CompletedProcess[bytes]"]
    """Calls the same command a second time, and waits for its end."""
    clock: Path | None
    """File with what libfaketime adds to the clock; None where the clock is the machine's."""
    small_disk: bool
    """Whether the home has a disk of its own that may be filled."""
    root: bool
    long_pauses: bool
    problems: list[str] = field(default_factory=list)

    def pause_s(self) -> float:
        """Return for how long something lasts."""
        if self.long_pauses and self.random.random() < LONG_ODDS:
            return LONG_PAUSE_S
        return self.random.choice([0.5, 1.0, 2.0, 5.0])

    def one(self, kind: str) -> Process | None:
        """Return a process of a kind; None if there is none."""
        found = sorted(
            (p for p in descendants(self.driver.pid) if p.kind == kind), key=lambda p: p.pid
        )
        return self.random.choice(found) if found else None


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
        process = scene.one(kind)
        return f"{process.title} {process.pid}" if process and process.send(number) else None

    return strike


def _paused(kind: str) -> Strike:
    def strike(scene: Scene) -> str | None:
        process, seconds = scene.one(kind), scene.pause_s()
        return f"{process.title} for {seconds} s" if process and process.pause(seconds) else None

    return strike


def _driver_paused(scene: Scene) -> str | None:
    seconds = scene.pause_s()
    scene.driver.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    scene.driver.send_signal(signal.SIGCONT)
    return f"for {seconds} s"


def _reader_killed(scene: Scene) -> str | None:
    """Kill a process that a worker has made of itself."""
    workers = {p.pid for p in descendants(scene.driver.pid) if p.kind == "worker"}
    children = [p for p in descendants(scene.driver.pid) if p.parent in workers]
    if not children:
        return None
    child = scene.random.choice(children)
    return f"{child.title} {child.pid}" if child.send(KILL) else None


def _disk_full(scene: Scene) -> str | None:
    if not scene.small_disk:
        return None
    seconds, ballast = scene.pause_s(), scene.home.parent / BALLAST
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(PIECE)
    time.sleep(seconds)
    ballast.unlink(missing_ok=True)
    return f"for {seconds} s"


def _database_locked(scene: Scene) -> str | None:
    path, seconds = scene.home / "mlflow.db", scene.pause_s()
    if not path.is_file():
        return None
    with closing(sqlite3.connect(path, timeout=2, isolation_level=None)) as database:
        try:
            database.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error:
            return None  # The sweep was quicker, or has no whole database yet.
        time.sleep(seconds)
        database.execute("ROLLBACK")
    return f"for {seconds} s"


def _some_file(scene: Scene) -> Path | None:
    patterns = ("artifacts/*/artifacts/*", "checkpoints/*/*/*", "datasets/*/data.arrow")
    files = [p for each in patterns for p in sorted(scene.home.glob(each)) if p.is_file()]
    return scene.random.choice(files) if files else None


def _file_away(scene: Scene) -> str | None:
    """Rename a file away for a while, as root may read whatever permissions say."""
    file, seconds = _some_file(scene), scene.pause_s()
    aside = scene.home.parent / "aside"
    if file is None:
        return None
    try:
        file.rename(aside)
    except OSError:
        return None
    time.sleep(seconds)
    if not file.exists():  # Or what came in its place is the newer.
        with suppress(OSError):  # Its folder may have been removed.
            aside.rename(file)
    aside.unlink(missing_ok=True)
    return f"{file.relative_to(scene.home)} for {seconds} s"


def _file_covered(scene: Scene) -> str | None:
    """Mount what cannot be read over one of the files: permissions would not stop root."""
    file, seconds = _some_file(scene), min(scene.pause_s(), 5.0)
    if file is None or not scene.root:
        return None
    with _covered(file) as done:
        time.sleep(seconds)
    return f"{file.relative_to(scene.home)} for {seconds} s" if done else None


@contextmanager
def _covered(file: Path):
    # The memory of a process from its start, where nothing is: reading it is an I/O error.
    done = subprocess.run(
        ["mount", "--bind", f"/proc/{os.getpid()}/mem", file], check=False, capture_output=True
    )
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "--lazy", file], check=False, capture_output=True)


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
    if scene.clock is None:
        return None
    before = int(scene.clock.read_text(encoding="utf-8") or 0)
    scene.clock.write_text(f"{before - CLOCK_STEP_S}\n", encoding="utf-8")
    return f"by {CLOCK_STEP_S} s"


def _second_driver(scene: Scene) -> str | None:
    done = scene.again()
    said = done.stderr.decode("utf-8", "replace")
    refused = done.returncode == REFUSED and IN_USE in said
    alone = scene.driver.poll() is not None
    if not refused and not alone:
        scene.problems.append(f"a second driver ended with {done.returncode}: {said[-500:]}")
    return "refused" if refused else f"ended with {done.returncode}"


BLOWS: dict[str, Strike] = {
    "driver SIGKILL": _to_driver(KILL),
    "driver SIGTERM": _to_driver(TERM),
    "driver SIGINT": _to_driver(INT),
    "driver SIGSTOP": _driver_paused,
    "group SIGKILL": _to_group(KILL),
    "group SIGTERM": _to_group(TERM),
    "group SIGINT": _to_group(INT),
    "worker SIGKILL": _to("worker", KILL),
    "worker SIGTERM": _to("worker", TERM),
    "worker SIGINT": _to("worker", INT),
    "worker SIGSTOP": _paused("worker"),
    "raylet SIGKILL": _to("raylet", KILL),
    "raylet SIGSTOP": _paused("raylet"),
    "GCS SIGKILL": _to("gcs", KILL),
    "GCS SIGSTOP": _paused("gcs"),
    "reader SIGKILL": _reader_killed,
    "disk full": _disk_full,
    "database locked": _database_locked,
    "file renamed away": _file_away,
    "file unreadable": _file_covered,
    "run deleted in MLflow": _run_deleted,
    "clock set back": _clock_back,
    "second driver": _second_driver,
}


def faketime() -> Path | None:
    """Return the library that shifts the clock of a process; None where it is not installed."""
    found = shutil.which("faketime") and sorted(
        Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    )
    return found[0] if found else None
