"""A drill: sweeps and searches under random blows, each of which must end as if there had been none.

    python -m tests.drill --minutes 30 --seed 0 --log drill.jsonl

Which blows fall, and after how long, follows from the seed; whom they find depends on the machine. With
root, and outside of containers that forbid it, the drill has its own mounts: a /tmp of its own, in which
nothing may be left, and now and then a small disk for the home, which is filled. Exit status 1 if
anything broke.
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

from tests.drill.blows import BLOWS, faketime
from tests.drill.episode import SUBJECTS, Conditions, Episode, play, undisturbed

BLOWS_EACH = 8
DISK_MIB = 600  # More than the least that a home asks for, and soon full.
SMALL_DISK_ODDS, CLOCK_ODDS, SEARCH_ODDS = 0.3, 0.2, 0.25
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
    parser.add_argument("--first", type=int, default=0, help="number of the first episode")
    parser.add_argument("--episodes", type=int, default=10_000, help="at most so many")
    parser.add_argument("--blows", default=",".join(BLOWS), help="only these, by commas")
    parser.add_argument("--log", type=Path, default=Path("drill.jsonl"))
    parser.add_argument("--scratch", type=Path, default=Path("/var/tmp"))
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
    expected: dict[str, bytes] = {}
    for number in range(told.first, told.first + told.episodes):
        if time.monotonic() >= deadline:
            return
        random = Random(f"{told.seed}/{number}")
        subject = SUBJECTS[random.random() < SEARCH_ODDS]
        if subject.name not in expected:
            home = scratch / f"undisturbed-{subject.name}"
            expected[subject.name] = undisturbed(subject, home)
            shutil.rmtree(home)
        small_disk = root and random.random() < SMALL_DISK_ODDS
        library = faketime() if random.random() < CLOCK_ODDS else None
        conditions = Conditions(
            scratch, small_disk, library, root, long_pauses=told.minutes >= LONG_MINUTES
        )
        names = _chosen(random, told.blows.split(","), conditions)
        log("episode", number=number, subject=subject.name, blows=names, small_disk=small_disk)
        with _disk(scratch / "disk", small=small_disk):
            episode = play(number, subject, names, expected[subject.name], conditions, random, log)
        log("outcome", **vars(episode))
        yield episode


def _chosen(random: Random, among: list[str], conditions: Conditions) -> list[str]:
    """Return the blows of an episode; those that its circumstances do not allow are left out."""
    possible = [
        name
        for name in among
        if (name != "disk full" or conditions.small_disk)
        and (name != "clock set back" or conditions.clock_library)
    ]
    chosen = random.choices(possible, k=BLOWS_EACH)
    particular = {"disk full", "clock set back"} & set(possible)
    for place, name in enumerate(sorted(particular)):  # What the circumstances are there for.
        chosen[2 * place] = chosen[2 * place + 1] = name
    random.shuffle(chosen)
    return chosen


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
