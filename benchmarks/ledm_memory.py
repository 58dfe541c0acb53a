"""How much memory does LEDM take at the paper's size, next to the array of the official code?

One real run (`Ledm`, 128-channel ADM, 20 images at 256 px, three steps, five blocks) in a fresh
process: features, then some iterations of the classifier. The weights are random and the images
made by a program, since neither changes a byte of what is held. The official array is not made
here, it would not fit: its size is arithmetic, and labelled so.

    nice python benchmarks/ledm_memory.py --threads 2

Units: bytes, 1 GB = 1e9; seconds.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from recording import asked, keep

TARGET = "ph2-like"
IMAGES = 24  # The training images and a few that the split needs.
FLOAT = 4
# Not imported here: torch. A child's peak starts at its parent's at the moment of the fork.


def main() -> None:
    arguments = parsed()
    if arguments.measure:
        measure(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, *sys.argv[1:], "--measure", folder]
        # Preparing the data and the weights has its own peak, which is not LEDM's.
        subprocess.run([*command, "--prepare"], check=True)
        subprocess.run(command, check=True)
        figures = json.loads((Path(folder) / "figures.json").read_text(encoding="utf-8"))
    keep("ledm_memory", figures, dry_run=arguments.dry_run)


def parsed() -> argparse.Namespace:
    parser = asked(__doc__)
    parser.add_argument("--side", type=int, default=256, help="image side in pixels")
    parser.add_argument("--channels", type=int, default=128, help="channels of the finest level")
    parser.add_argument("--iterations", type=int, default=1000, help="of the classifier")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> None:
    """Prepare the run's inputs, or measure it; each in a process of its own."""
    from trainables.adaptation.ledm import Ledm

    imported = peak()
    spec, places = run_of(arguments)
    if arguments.prepare:
        write_weights(spec, places)
        return
    started = time.monotonic()
    run = Ledm(spec, places)
    extracted, ready = peak(), time.monotonic()
    while not run.done:
        run.advance()
    trained = time.monotonic()
    dimensions = run.classifier[0].in_features
    array = run.config.train_images * arguments.side**2 * dimensions * FLOAT
    figures = {
        "image_side": arguments.side,
        "train_images": run.config.train_images,
        "feature_dimensions": dimensions,
        "iterations": run.update,
        "threads": arguments.threads,
        "peak_after_imports": imported,
        "peak_after_features": extracted,
        "peak": peak(),
        "official_array_computed": array,
        "official_peak_computed": 2 * array,  # The array next to its masked copy.
        "seconds_features": round(ready - started, 1),
        "seconds_iterations": round(trained - ready, 1),
    }
    (Path(arguments.measure) / "figures.json").write_text(json.dumps(figures), encoding="utf-8")


def peak() -> int:
    """Return the largest resident set this process had so far; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_of(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Return the spec and the places of the run, with its data prepared."""
    from trainables.config import (
        AdmConfig,
        ComputeConfig,
        LedmConfig,
        PretrainedRef,
        RunSpec,
    )
    from trainables.data.datasets import all_datasets
    from trainables.data.prepare import prepare
    from trainables.loop import Places

    home = Path(arguments.measure)
    target = prepare(all_datasets()[TARGET], None, home, image_size=arguments.side, images=IMAGES)
    spec = RunSpec(
        stage="fine-tuning",
        task="ledm",
        network=AdmConfig(channels=arguments.channels),
        dataset=target.ref(arguments.side),
        seed=0,
        training=LedmConfig(max_iterations=arguments.iterations),
        pretrained=PretrainedRef(key="0" * 16, task="hybrid", classes=2),
        compute=ComputeConfig(precision="fp32", threads=arguments.threads),
    )
    folder = home / "datasets" / f"{target.name}-{target.stored_side}"
    places = Places(
        dataset=folder, checkpoints=home, artifacts=home, pretrained=home / "pretrained"
    )
    return spec, places


def write_weights(spec: Any, places: Any) -> None:
    """Write random weights where the run expects those of a pretraining."""
    from plain_adm import filled
    from safetensors.torch import save_file

    from trainables.networks.start import WEIGHTS_FILE, fresh_network, pretraining_outputs

    outputs = pretraining_outputs(spec.pretrained.task, spec.pretrained.classes)
    places.pretrained.mkdir()
    network = filled(fresh_network(spec, outputs, places))
    save_file(network.state_dict(), places.pretrained / WEIGHTS_FILE)


if __name__ == "__main__":
    main()
