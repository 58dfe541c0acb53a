"""How large must Shenzhen be stored, so that a crop is as sharp as one rescaled from the original?

The paper crops the X-ray of 3000 pixels and rescales once, to 256. A stored copy is a rescaling
before that, so for each side it may have, and for bilinear and Lanczos weights of the first rescaling:
the energy above half of Nyquist's frequency that is left of what one rescaling leaves, of white noise,
at crops of none, the mean and the most (a ratio above 1 is frequencies that one rescaling would have
dampened); what 566 X-rays take on disk; and how long a batch of 64 crops takes to read.

    python benchmarks/crops.py            # a minute, 1 GB of memory

Units: bytes, 1 MB = 1e6; seconds.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recording import asked, keep

from trainables.data.datasets import all_datasets
from trainables.data.feeding.batches import MOST_CROPPED, load_levels, tensors_on
from trainables.data.files.images import resize_image
from trainables.data.info import Sample
from trainables.data.store import ArrowDataset, write_dataset

ORIGINAL, SIDE, IMAGES, BATCH = 3000, 256, 566, 64
STORED = ((288, False), (288, True), (448, False), (448, True), (512, True), (1024, False))
"""Side, and whether the first rescaling keeps fine detail."""
CROPPED = (0.0, MOST_CROPPED / 2, MOST_CROPPED)
REPEATED = 5


def main() -> None:
    arguments = asked(__doc__).parse_args()
    noise = np.random.default_rng(0).normal(128, 200, (ORIGINAL, ORIGINAL)).astype(np.float32)
    rows = [row(noise, side, sharp=sharp) for side, sharp in STORED]
    keep(
        "crops",
        {"original_side": ORIGINAL, "side": SIDE, "stored": rows},
        dry_run=arguments.dry_run,
    )


def row(noise_HW: NDArray[np.float32], side: int, *, sharp: bool) -> dict[str, Any]:
    """Return what one way of storing keeps, and what it costs."""
    stored = resize_image(noise_HW, side, sharp=sharp).round().clip(0, 255).astype(np.uint8)
    kept = []
    for cropped in CROPPED:
        crops = [
            resize_image(each, SIDE, inner(len(each), cropped)) for each in (stored, noise_HW)
        ]
        kept.append(round(high(crops[0]) / high(crops[1]), 3))
    return {
        "stored_side": side,
        "weights": "lanczos" if sharp else "bilinear",
        "energy_kept_at_crops_of": dict(zip(map(str, CROPPED), kept, strict=True)),
        "megabytes_of_566": round(IMAGES * side * side * 4 / 1e6),
        "seconds_per_batch_of_64": round(seconds_per_batch(stored), 3),
    }


def inner(side: int, cropped: float) -> tuple[float, float, float, float]:
    return side * cropped, side * cropped, side * (1 - cropped), side * (1 - cropped)


def high(image_HW: NDArray[Any]) -> float:
    """Return the energy at frequencies above half of Nyquist's along either axis."""
    levels_HW = image_HW.astype(np.float64)
    spectrum_HW = np.abs(np.fft.fft2(levels_HW - levels_HW.mean())) ** 2
    frequency = np.abs(np.fft.fftfreq(len(image_HW)))
    return float(spectrum_HW[np.maximum.outer(frequency, frequency) >= 0.25].sum())


def seconds_per_batch(grey_SS: NDArray[np.uint8]) -> float:
    """Return the shortest time in which a batch of crops is read from a dataset of this side."""
    image_SSC, labels_SS = np.repeat(grey_SS[..., None], 3, axis=2), (grey_SS > 128).astype("u1")

    def samples() -> Iterator[Sample]:
        for number in range(BATCH):
            yield Sample(id=f"{number:04}", image_HWC=image_SSC, labels_HW=labels_SS)

    times = []
    with tempfile.TemporaryDirectory() as folder:
        info, place = all_datasets()["shenzhen"], Path(folder) / "data"
        prepared = write_dataset(place, info, samples(), len(grey_SS))
        data = ArrowDataset.open(place, fingerprint=prepared.fingerprint)
        for _ in range(REPEATED):
            started = time.monotonic()
            levels = load_levels(
                data, range(BATCH), image_size=SIDE, augmentation="border_crop", seeds=range(BATCH)
            )
            tensors_on("cpu", *levels)
            times.append(time.monotonic() - started)
    return min(times)


if __name__ == "__main__":
    main()
