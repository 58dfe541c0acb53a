"""Does reading the largest dataset keep up with training, and how much memory does a worker take?

A dataset of CelebA's size (30,000 images at 256 px, 7.9 GB): few distinct images made by a program,
repeated under ids of their own, since what is in them changes neither the bytes nor the time. Then,
in a process of its own, batches of 64 with flips from random places of the memory map; and updates
of the demo's ADM, at the demo's own image size, on as many images, for the ratio: so small a network
consumes images as fast as any here. Private memory is what the kernel counts as `Private_Dirty`: pages
of the map are clean, shared by all workers, and given back whenever somebody needs the memory.

The aim of 300 MB of private memory is missed with the CUDA build of torch: 340 MB, of which importing
torch alone takes 291 (its registry of operators and its 1,300 modules; nothing of it is given back by
collecting or trimming), opening the dataset with pyarrow, Pillow and our modules 32, and reading
batches of 64 another 17 (2026-11-25, 2 cores).

    python benchmarks/data_loading.py            # 10 GB of disk for a while, some minutes

Units: bytes, 1 GB = 1e9; seconds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from recording import asked, keep

NAME = "celebamask_hq-like"
DISTINCT = 64
BATCH = 64


def main() -> None:
    arguments = parsed()
    if arguments.measure:
        print(json.dumps(measured(Path(arguments.measure), arguments)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        written = write(Path(folder), arguments)
        command = [sys.executable, __file__, *sys.argv[1:], "--measure", folder]
        done = subprocess.run(
            command, check=True, capture_output=True, encoding="utf-8", errors="replace"
        )
    figures = {**written, **json.loads(done.stdout.splitlines()[-1])}
    keep("data_loading", figures, dry_run=arguments.dry_run)


def parsed() -> argparse.Namespace:
    parser = asked(__doc__)
    parser.add_argument("--images", type=int, default=30_000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--folder", help="where to put the dataset; the temporary folder")
    parser.add_argument("--measure", metavar="FOLDER", help=argparse.SUPPRESS)
    return parser.parse_args()


def write(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the dataset through the project's own writer."""
    from dataclasses import replace

    from trainables.data.datasets import all_datasets
    from trainables.data.info import Sample
    from trainables.data.store import write_dataset

    info = all_datasets()[NAME]
    assert info.generate is not None
    distinct = list(info.generate(DISTINCT, arguments.side))

    def samples() -> Iterator[Sample]:
        for i in range(arguments.images):
            yield replace(distinct[i % DISTINCT], id=f"{i:06}")

    started = time.monotonic()
    prepared = write_dataset(folder / "data", info, samples(), arguments.side)
    return {
        "images": prepared.images,
        "image_side": arguments.side,
        "file_bytes": prepared.bytes,
        "seconds_writing": round(time.monotonic() - started, 1),
    }


def measured(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Read batches, then train on batches of the same size, and return what each took."""
    before = private()
    import torch  # noqa: F401 - to know its share

    torch_imported = private()
    from trainables.data.feeding.batches import load_levels, tensors_on
    from trainables.data.prepared import read_prepared
    from trainables.data.store import ArrowDataset

    prepared = read_prepared(folder / "data")
    assert prepared is not None
    data = ArrowDataset.open(folder / "data", fingerprint=prepared.fingerprint)
    draw = np.random.default_rng(0)
    opened = private()
    most, started = 0, time.monotonic()
    for number in range(arguments.batches):
        indices = draw.integers(0, len(data), BATCH)
        seeds = [number * BATCH + i for i in range(BATCH)]
        levels = load_levels(
            data, indices, image_size=arguments.side, augmentation="flips", seeds=seeds
        )
        tensors_on("cpu", *levels)
        most = max(most, private())
    reading = (time.monotonic() - started) / arguments.batches
    updating = seconds_per_update()
    return {
        "batch": BATCH,
        "private_bytes_of_importing_torch": torch_imported - before,
        "private_bytes_after_opening": opened,
        "private_bytes_most": most,
        "seconds_per_batch_read": round(reading, 4),
        "seconds_per_update_of_demo_adm": round(updating, 4),
        "times_faster_than_training": round(updating / reading, 1),
    }


def seconds_per_update() -> float:
    """Return the time that the demo's ADM takes to train on a batch."""
    import torch

    from orchestrator.plan.plan import load_plan
    from trainables.networks import build

    plan = load_plan("table2", scale="demo", methods="hybrid_ft", targets="ffhq34")
    (spec,) = (run.spec for run in plan.runs if run.pretraining)
    torch.set_num_threads(1)  # As a worker of the sweep has it, and as the reading had.
    network, side = build(spec.network, 3 + spec.dataset.classes), spec.dataset.image_size
    times = []
    for _ in range(3):
        started = time.monotonic()
        answers = network(torch.rand(BATCH, 3, side, side), torch.zeros(BATCH, dtype=torch.long))
        answers.square().mean().backward()
        times.append(time.monotonic() - started)
    return min(times)


def private() -> int:
    """Return the memory of this process that no other shares."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    # Clean pages of the file are the page cache: given back whenever somebody needs them.
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) * 1024


if __name__ == "__main__":
    main()
