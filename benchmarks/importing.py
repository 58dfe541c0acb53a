"""Is importing data of one's own as fast as a plain loop over Pillow with as many processes?

Photographs of 1200 x 900 px (noise made smooth, as JPEG) with masks of labels as PNG, or coded by colours; few
distinct ones under many names, which changes nothing of what it takes to decode them. The plain loop is a script that
opens both, resizes them to the side with Pillow and saves them as PNG, in processes that it forks: it looks at
nothing. The import is the whole command, with its checks, its fingerprint and its file.

Both are run by turns, several times, in the same minutes, each from the start of Python to its end; compared are the
medians of the time that passed, and of the processor time of all processes, which another program on the machine
changes least. Peak memory is the largest resident set of any process of each (`ru_maxrss`).

Found on two cores that others wanted too (2026-12-01, `--times 3`): with masks of labels, import takes 0.92 of the
script's processor time at 1,000 images, and 1.02 at 300, where the start of the command (0.6 s) weighs more; with masks
coded by colours 1.04 and 1.09.

    python benchmarks/importing.py            # some minutes, 200 MB of disk for a while
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from recording import asked, keep

SIZE, DISTINCT = (1200, 900), 50
COLOURS = ((0, 0, 0), (200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30))


def main() -> None:
    arguments = parsed()
    if arguments.plain:
        plain(Path(arguments.plain), arguments)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        root = Path(folder)
        figures = {}
        for coding in ("ids", "colours"):
            for count in arguments.images:
                made = root / f"{coding}-{count}"
                write(made, coding, count)
                figures[f"{coding}, {count} images"] = compared(made, arguments)
                shutil.rmtree(made)
    keep("importing", {**shown(arguments), **figures}, dry_run=arguments.dry_run)


def parsed() -> argparse.Namespace:
    parser = asked(__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[300, 1000])
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--folder", help="where to put the images; the temporary folder")
    parser.add_argument("--plain", metavar="FOLDER", help=argparse.SUPPRESS)
    return parser.parse_args()


def shown(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
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
    home, out = root.parent / "home", root.parent / "out"
    side, processes = str(arguments.side), str(arguments.processes)
    commands = {
        "plain": [
            *(sys.executable, __file__, "--plain", str(root)),
            *("--side", side, "--processes", processes, "--folder", str(out)),
        ],
        "import": [
            *(str(Path(sys.executable).with_name("hdsweep")), "data", "import", "mine"),
            *("--images", str(root / "images"), "--masks", str(root / "masks")),
            *("--classes", str(root / "classes.txt"), "--image-size", side),
            *("--workers", processes, "--home", str(home)),
        ],
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for _ in range(arguments.times):
        for name, command in commands.items():
            runs[name].append(measured(command))
            shutil.rmtree(home, ignore_errors=True)
            shutil.rmtree(out, ignore_errors=True)
    median = {
        name: {what: statistics.median(run[what] for run in each) for what in each[0]}
        for name, each in runs.items()
    }
    plain, ours = median["plain"], median["import"]
    return {
        "times_as_fast_as_plain": round(plain["seconds"] / ours["seconds"], 2),
        "processor_time_of_plain": round(ours["cpu_seconds"] / plain["cpu_seconds"], 2),
        "seconds": {
            name: [round(run["seconds"], 2) for run in each] for name, each in runs.items()
        },
        "cpu_seconds": {
            name: [round(run["cpu_seconds"], 2) for run in each] for name, each in runs.items()
        },
        "most_bytes_of_a_process": {
            name: int(max(run["most_bytes"] for run in each)) for name, each in runs.items()
        },
    }


def measured(command: list[str]) -> dict[str, float]:
    """Return what a command takes, all of its processes included."""
    # A process of its own waits for it, so that its children are all that is counted.
    code = (
        "import json, resource, subprocess, sys, time; started = time.monotonic(); "
        "subprocess.run(json.loads(sys.argv[1]), check=True, capture_output=True); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(json.dumps({'seconds': time.monotonic() - started, "
        "'cpu_seconds': used.ru_utime + used.ru_stime, 'most_bytes': used.ru_maxrss * 1024}))"
    )
    asked_for = [sys.executable, "-c", code, json.dumps(command)]
    done = subprocess.run(asked_for, check=True, capture_output=True, encoding="utf-8")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def plain(root: Path, arguments: argparse.Namespace) -> None:
    """Resize all images and masks, in processes that are forked."""
    out = Path(arguments.folder)
    for kind in ("images", "masks"):
        (out / kind).mkdir(parents=True)
    names = sorted(path.stem for path in (root / "images").iterdir())
    with get_context("fork").Pool(arguments.processes) as pool:
        asked_for = ((root, out, name, arguments.side) for name in names)
        done = sum(pool.imap(resized, asked_for, chunksize=8))
        pool.close()
        pool.join()  # Only of processes that were waited for is it known what they took.
    assert done == len(names)


def resized(what: tuple[Path, Path, str, int]) -> int:
    """Resize an image and its mask; return 1."""
    root, out, name, side = what
    with Image.open(root / f"images/{name}.jpg") as image:
        small = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        small.save(out / f"images/{name}.png")
    with Image.open(root / f"masks/{name}.png") as mask:
        labels = mask.resize((side, side), Image.Resampling.NEAREST)
        labels.save(out / f"masks/{name}.png")
    return 1


if __name__ == "__main__":
    main()
