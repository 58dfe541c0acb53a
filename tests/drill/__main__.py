"""A drill: sweeps and searches under random blows, each of which must end as if there had been none.

    python -m tests.drill --minutes 30 --seed 0 --log drill.jsonl

Which blows fall in which order, and after how long, follows from the seed; whom they find depends on the
machine. All of it is dealt from decks, so that no kind is rare by chance. With root, and outside of
containers that forbid it, the drill has its own mounts: a /tmp of its own, in which nothing may be left,
and a small disk for the home, which is filled. Exit status 1 if anything broke.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from tests.drill.blows import BLOWS, CLOCK, LONG_PAUSES_S, MOUNTS, PAUSES_S, SMALL_DISK
from tests.drill.clock import Clock, moved_by
from tests.drill.deck import Deck
from tests.drill.episode import DELAYS_S, Conditions, Episode, play
from tests.drill.subjects import SUBJECTS, undisturbed

DISK_MIB = 600  # More than the least that a home asks for, and soon full.
ROUND = {"sweep": 3, "search": 2, "import": 2}
LONG_MINUTES = 20  # From here on, pauses may last a minute.
OWN_MOUNTS = "DRILL_OWN_MOUNTS"


def main() -> int:
    """Play episodes for as long as asked, write the log, print the figures."""
    told = _parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # So that what was started is ended.
    if os.geteuid() == 0 and OWN_MOUNTS not in os.environ:
        _with_own_mounts()
    root = os.environ.get(OWN_MOUNTS) == "yes"
    scratch = Path(tempfile.mkdtemp(prefix="hdsweep-drill-", dir=told.scratch))
    with told.log.open("a", encoding="utf-8") as file:
        log = _logging(file)
        if root:
            (scratch / "tmp").mkdir()
            (scratch / "tmp").chmod(0o1777)
            subprocess.run(["mount", "--bind", scratch / "tmp", "/tmp"], check=True)
        try:
            episodes = list(_episodes(told, scratch, root=root, log=log))
        finally:
            if root:
                subprocess.run(["umount", "--lazy", "/tmp"], check=False)
            shutil.rmtree(scratch, ignore_errors=True)
        figures = _figures(episodes)
        log("figures", **figures)
    print(json.dumps(figures, indent=1))
    return int(bool(figures["broken"]))


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--episodes", type=int, default=10_000, help="at most so many")
    parser.add_argument("--subjects", default="all", help=f"of {', '.join(SUBJECTS)}, by commas")
    parser.add_argument("--blows", default=",".join(BLOWS), help="only these, by commas")
    parser.add_argument("--once", action="store_true", help="end when each blow has fallen once")
    parser.add_argument("--log", type=Path, default=Path("drill.jsonl"))
    parser.add_argument("--scratch", type=Path, default=Path("/var/tmp"), help="not below /tmp")
    return parser.parse_args()


def _with_own_mounts() -> None:
    """Start anew with mounts of our own, which end with us; or go on without."""
    unshare = shutil.which("unshare")
    probe = ["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "x", "/mnt"]
    can = unshare and subprocess.run(probe, check=False, capture_output=True).returncode == 0
    os.environ[OWN_MOUNTS] = "yes" if can else "no"
    if can:
        options = ["--mount", "--propagation", "private"]
        os.execv(
            unshare, ["unshare", *options, sys.executable, "-m", "tests.drill", *sys.argv[1:]]
        )


def _logging(file) -> Callable[..., None]:
    def log(event: str, **details: object) -> None:
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S"), "event": event, **details})
        file.write(f"{line}\n")
        file.flush()
        print(line[:300], file=sys.stderr)

    return log


def _episodes(
    told: argparse.Namespace, scratch: Path, *, root: bool, log: Callable[..., None]
) -> Iterator[Episode]:
    deadline = time.monotonic() + 60 * told.minutes
    random = Random(told.seed)
    mover = moved_by(scratch)
    possible = _possible(told.blows.split(","), root=root, clock=mover is not None)
    counts = dict.fromkeys(possible, 1) if told.once else possible
    blows = Deck(random, counts, once=told.once)
    missing = set(possible)
    subjects = Deck(random, _round(told.subjects))
    other_clocks = any(BLOWS[name].needs == CLOCK for name in possible)
    clocks = Deck(random, {mover: 1, None: 1} if other_clocks else {None: 1})
    pauses = Deck(random, PAUSES_S | (LONG_PAUSES_S if told.minutes >= LONG_MINUTES else {}))
    delays = Deck(random, DELAYS_S)
    expected: dict[str, bytes] = {}
    for number in range(told.episodes):
        if time.monotonic() >= deadline or (told.once and not missing):
            return
        subject, libraries = SUBJECTS[subjects.deal(1)[0]], clocks.deal(1)[0]
        if subject.name not in expected:
            subject.prepare(scratch / "material")
            with _disk(scratch / "disk", small=root):
                home = scratch / "disk" / "undisturbed"
                expected[subject.name] = undisturbed(subject, home)
        clock = Clock(libraries, scratch / "clock") if libraries else None
        conditions = Conditions(scratch, pauses, delays, root, clock, root)
        log("episode", number=number, subject=subject.name, clock=clock is not None)
        with _disk(scratch / "disk", small=root):
            episode = play(number, subject, blows, expected[subject.name], conditions, random, log)
        log("outcome", **vars(episode))
        missing -= set(episode.blows)
        yield episode


def _possible(among: list[str], *, root: bool, clock: bool) -> dict[str, int]:
    """Return how often each blow is in a deck; those are left out that cannot be had here."""
    missing = set() if root else {SMALL_DISK, MOUNTS}
    missing |= set() if clock else {CLOCK}
    return {name: BLOWS[name].count for name in among if BLOWS[name].needs not in missing}


def _round(told: str) -> dict[str, int]:
    return ROUND if told == "all" else dict.fromkeys(told.split(","), 1)


@contextmanager
def _disk(folder: Path, *, small: bool) -> Iterator[None]:
    folder.mkdir()
    if small:
        size = f"size={DISK_MIB}m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        if small:
            subprocess.run(["umount", "--lazy", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _figures(episodes: list[Episode]) -> dict[str, object]:
    blows = sum((Counter(each.blows) for each in episodes), Counter())
    return {
        "episodes": dict(Counter(each.subject for each in episodes)),
        "blows": dict(sorted(blows.items())),
        "blows_in_all": blows.total(),
        "starts": sum(each.starts for each in episodes),
        "identical": sum(each.identical for each in episodes),
        "updates_redone": sum(each.redone for each in episodes),
        "minutes": round(sum(each.seconds for each in episodes) / 60, 1),
        "broken": [
            {"episode": each.number, "problem": problem[:400]}
            for each in episodes
            for problem in each.problems
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
