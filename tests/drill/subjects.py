"""What a drill runs: a command, and how what it came to is read, without what is of one time alone."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.command_line import command

SMOKE = ("--scale", "smoke")
RETRIES = ("--retries", 1000)
IMAGES, SIDE = 400, 320  # Of the import.


@dataclass(frozen=True)
class Subject:
    """What is run."""

    name: str
    arguments: Callable[[Path], tuple[object, ...]]
    """Of a folder that it may read from."""
    outcome: Callable[[Path], bytes]
    """What is in a home when it is through."""
    hand: int
    """How many blows fall on it."""
    trains: bool = True
    """Whether it has workers of Ray's and a database, or else forked readers."""
    prepare: Callable[[Path], None] = lambda _: None
    """Makes what it reads from."""

    def command(self, home: Path) -> list[str]:
        """Return the whole command; what it reads from lies beside the drill's disk."""
        told = (*self.arguments(home.parents[1] / "material"), "--json", "--home", home)
        return [sys.executable, "-m", "orchestrator", *map(str, told)]


def undisturbed(subject: Subject, home: Path) -> bytes:
    """Return what a command comes to if it is left alone."""
    done: Any = subprocess.run(
        subject.command(home), check=False, capture_output=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr[-3000:].decode("utf-8", "replace")
    return subject.outcome(home)


def _table(*cells: object) -> Callable[[Path], bytes]:
    def outcome(home: Path) -> bytes:
        """Return the table and all it says, but when and in how many sessions it was made."""
        told = json.loads(_told("report", "table2", *SMOKE, *cells, home=home))
        del told["made"]
        return json.dumps(told).encode()

    return outcome


def _search(home: Path) -> bytes:
    """Return what a search found, without how long it took; nothing is left to train."""
    told = json.loads(_told(*SEARCH, home=home).splitlines()[-1])
    assert told["trained"] == 0, told
    kept = ("trials", "complete", "pruned", "best", "value", "updates")
    return json.dumps({name: told[name] for name in kept}).encode()


def _dataset(home: Path) -> bytes:
    """Return what was imported, looked at anew."""
    return _told("data", "verify", "mine", home=home)


def _told(*arguments: object, home: Path) -> bytes:
    done = subprocess.run(
        command(*arguments, "--json", "--home", home),
        check=False,
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:].decode("utf-8", "replace")
    return done.stdout


def _draw(folder: Path) -> None:
    """Write images and masks of an own dataset."""
    if folder.is_dir():
        return
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(IMAGES):
        pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png", compress_level=0)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[number % 200 : 300, 100:300] = 255
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png", compress_level=1)
    (folder / "classes.txt").write_text("background\nthing\n", encoding="utf-8")
    listed = "".join(f"{number}\n" for number in range(IMAGES // 2))
    (folder / "train.txt").write_text(listed, encoding="utf-8")


def _import(folder: Path) -> tuple[object, ...]:
    names = {"images": "images", "masks": "masks", "classes": "classes.txt", "train": "train.txt"}
    places = [part for name, file in names.items() for part in (f"--{name}", folder / file)]
    return ("data", "import", "mine", *places, "--workers", 2)


# Four pretrainings of a second or more, so that blows meet training, and twelve fine-tunings.
CELLS = ("--methods", "hybrid_ft,diffusion_ledm,scratch_adm", "--targets", "ph2,montgomery")
CELLS += ("--seeds", "0,1")
CELLS += ("--set", "pretraining.updates=300", "--set", "pretraining.log_every=10")
FEW = ("--methods", "hybrid_ft,scratch_adm", "--targets", "ph2", "--seeds", "0")
FEW += ("--set", "pretraining.updates=200", "--set", "pretraining.log_every=10")
SEARCH = ("tune", "lambda", "--source", "isic2018", "--targets", "ph2", "--seeds", 1, *SMOKE)
SEARCH += ("--set", "pretraining.updates=135", "--trials", 4, "--workers", 1)
SUBJECTS = {
    each.name: each
    for each in (
        Subject(
            "sweep", lambda _: ("run", "table2", *SMOKE, *CELLS, *RETRIES), _table(*CELLS), 24
        ),
        Subject("search", lambda _: (*SEARCH, *RETRIES), _search, 30),
        Subject("import", _import, _dataset, 8, trains=False, prepare=_draw),
        Subject(
            "small sweep", lambda _: ("run", "table2", *SMOKE, *FEW, *RETRIES), _table(*FEW), 12
        ),
    )
}
