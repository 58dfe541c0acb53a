"""Is importing data of one's own as fast as a plain loop over Pillow with as many processes?

Photographs of 1200 x 900 px (noise made smooth, as JPEG) with masks of labels as PNG, or coded by colours; few
distinct ones under many names, which changes nothing of what it takes to decode them. The plain loop opens both,
resizes them to the side with Pillow and keeps the arrays in memory: it looks at nothing, stores nothing and forks its
processes. The import is the whole command, with its start, its checks, its fingerprint and its file.

Both are run by turns, several times, in the same minutes; compared are the medians: of the images per second, and of
the processor time per image, from which what an import of a few images takes (the start) is taken off. Peak memory
is the largest resident set of any process of each (`ru_maxrss`).

The aim, to be as fast as the loop, is missed: on a shared machine, 300 images and two processes, import reaches about
half of its rate (the start weighs most), with 1.2 times its processor time per image, 1.5 times if masks are coded by
colours (2026-12-01, `--images 300 --times 2`).

    python benchmarks/importing.py            # some minutes, 200 MB of disk for a while
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from recording import asked, keep

SIZE, DISTINCT = (1200, 900), 50
FEW = 4  # Images of an import that is hardly more than its start.
COLOURS = ((0, 0, 0), (200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30))


def main() -> None:
    arguments = parsed()
    if arguments.plain:
        print(json.dumps(plain(Path(arguments.plain), arguments)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        root = Path(folder)
        figures = {}
        for coding in ("ids", "colours"):
            write(root / coding, coding, arguments.images)
            figures[coding] = compared(root / coding, arguments)
    keep("importing", {**shown(arguments), **figures}, dry_run=arguments.dry_run)


def parsed() -> argparse.Namespace:
    parser = asked(__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--folder", help="where to put the images; the temporary folder")
    parser.add_argument("--plain", metavar="FOLDER", help=argparse.SUPPRESS)
    return parser.parse_args()


def shown(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "images": arguments.images,
        "size": list(SIZE),
        "side": arguments.side,
        "processes": arguments.processes,
        "times": arguments.times,
    }


def write(root: Path, coding: str, count: int) -> None:
    """Write images, masks and the class list."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    for i in range(count):
        if i >= DISTINCT:
            for path in (f"images/{i:05}.jpg", f"masks/{i:05}.png"):
                (root / path).hardlink_to(root / path.replace(f"{i:05}", f"{i % DISTINCT:05}"))
            continue
        draw = np.random.default_rng(i)
        small = Image.fromarray(draw.integers(0, 256, (90, 120, 3), dtype=np.uint8))
        small.resize(SIZE, Image.Resampling.BICUBIC).save(root / f"images/{i:05}.jpg", quality=90)
        labels = np.zeros(SIZE[::-1], np.uint8)
        for label in range(1, len(COLOURS)):
            centre = draw.uniform((100, 100), (1100, 800))
            labels[np.hypot(x - centre[0], y - centre[1]) < draw.uniform(60, 180)] = label
        mask = np.array(COLOURS, np.uint8)[labels] if coding == "colours" else labels
        Image.fromarray(mask).save(root / f"masks/{i:05}.png")
    lines = [
        f"class{i} {' '.join(map(str, colour))}" if coding == "colours" else f"class{i}"
        for i, colour in enumerate(COLOURS)
    ]
    (root / "classes.txt").write_text("\n".join(lines), encoding="utf-8")


def compared(root: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run both by turns; return the medians, their ratio and the memory."""
    measured: dict[str, list[dict[str, float]]] = {"plain": [], "import": [], "start": []}
    few = root.parent / "few"
    shutil.rmtree(few, ignore_errors=True)
    write(few, root.name, FEW)
    for _ in range(arguments.times):
        command = [sys.executable, __file__, *sys.argv[1:], "--plain", str(root)]
        done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
        measured["plain"].append(json.loads(done.stdout))
        measured["import"].append(imported(root, arguments))
        measured["start"].append(imported(few, arguments))

    def median(name: str, what: str) -> float:
        return statistics.median(run[what] for run in measured[name])

    both, count = ("plain", "import"), arguments.images
    start = median("start", "cpu_seconds")
    cpu = {
        "plain": median("plain", "cpu_seconds") / count,
        "import": (median("import", "cpu_seconds") - start) / (count - FEW),
    }
    return {
        "images_per_second": {name: round(count / median(name, "seconds"), 1) for name in both},
        "times_as_fast_as_plain": round(
            median("plain", "seconds") / median("import", "seconds"), 2
        ),
        "seconds": {name: [round(run["seconds"], 2) for run in measured[name]] for name in both},
        "cpu_milliseconds_per_image": {name: round(1000 * each, 2) for name, each in cpu.items()},
        "cpu_seconds_of_the_start": round(start, 2),
        "most_bytes_of_a_process": {
            name: max(run["most_bytes"] for run in measured[name]) for name in both
        },
    }


def imported(root: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Return what the whole command takes, all of its processes included."""
    home = root.parent / "home"
    command = [
        *(str(Path(sys.executable).with_name("hdsweep")), "data", "import", "mine"),
        *("--images", str(root / "images"), "--masks", str(root / "masks")),
        *("--classes", str(root / "classes.txt"), "--image-size", str(arguments.side)),
        *("--workers", str(arguments.processes), "--home", str(home)),
    ]
    # A process of its own waits for it, so that its children are all that is counted.
    code = (
        "import json, resource, subprocess, sys, time; started = time.monotonic(); "
        "subprocess.run(json.loads(sys.argv[1]), check=True, capture_output=True); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(json.dumps({'seconds': time.monotonic() - started, "
        "'cpu_seconds': used.ru_utime + used.ru_stime, 'most_bytes': used.ru_maxrss * 1024}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(command)],
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    shutil.rmtree(home)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def plain(root: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Return what the loop takes, with processes that are forked."""
    names = sorted(path.stem for path in (root / "images").iterdir())
    own = resource.getrusage(resource.RUSAGE_SELF)
    before, started = own.ru_utime + own.ru_stime, time.monotonic()
    with get_context("fork").Pool(arguments.processes) as pool:
        asked_for = ((root, name, arguments.side) for name in names)
        kept = list(pool.imap(opened, asked_for, chunksize=8))
        seconds = time.monotonic() - started
        pool.close()
        pool.join()  # Only of processes that were waited for is it known what they took.
    assert len(kept) == arguments.images
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "seconds": seconds,
        "cpu_seconds": sum(each.ru_utime + each.ru_stime for each in used) - before,
        "most_bytes": max(each.ru_maxrss for each in used) * 1024,
    }


def opened(what: tuple[Path, str, int]) -> tuple[Any, Any]:
    """Return an image and its mask, resized."""
    root, name, side = what
    with Image.open(root / f"images/{name}.jpg") as image:
        small = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    with Image.open(root / f"masks/{name}.png") as mask:
        labels = mask.resize((side, side), Image.Resampling.NEAREST)
    return np.asarray(small), np.asarray(labels)


if __name__ == "__main__":
    main()
