"""How often does `data verify` miss a copy, and how often does it take two images for copies?

On the real sets at hand: every image is changed in one way at 256 px, stored at the side that is asked
about, and looked for in its set: copies that are not found are *missed*. Pairs of different images of a
set, and of two sets, that look alike are listed by id, to be looked at; *near* pairs are those that
their layout alone did not tell apart.

    HDSWEEP_REAL_DATA=... python benchmarks/likeness.py            # some minutes

ISIC 2018 holds lesions that were photographed twice: its pairs are no mistakes.
"""

import io
import os
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from recording import asked, keep

from trainables.data.datasets import all_datasets
from trainables.data.files.images import read_colour, resize_image
from trainables.data.inspection.likeness import (
    DETAIL_SIDE,
    SAME_LAYOUT,
    agreement,
    candidates,
    detail,
    layout,
    least_detail,
    mirrored,
)
from trainables.data.releases.chest_xray import equalise

SETS = ("ph2", "montgomery", "shenzhen", "isic2018")
SIDES = (256, 64, 32)
ORIGINAL = 256
CHANGED = 600
"""Images of a set that are changed, at most."""

Picture = NDArray[np.uint8]


def encoded(image: Picture, quality: int) -> Picture:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def rescaled(image: Picture, share: float) -> Picture:
    side = len(image)
    small = Image.fromarray(image).resize((round(side * share),) * 2, Image.Resampling.BILINEAR)
    return np.asarray(small.resize((side, side), Image.Resampling.BILINEAR))


def equalised(image: Picture) -> Picture:
    levels = equalise(np.asarray(Image.fromarray(image).convert("L")))
    return np.repeat(levels.round().astype(np.uint8)[..., None], 3, axis=2)


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "encoded, quality 75": lambda image: encoded(image, 75),
    "encoded, quality 30": lambda image: encoded(image, 30),
    "resized to 0.8": lambda image: rescaled(image, 0.8),
    "resized to 0.5": lambda image: rescaled(image, 0.5),
    "gamma 0.6": lambda image: (255 * (image / 255) ** 0.6).astype(np.uint8),
    "equalised": equalised,
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
}


def main() -> None:
    arguments = asked(__doc__).parse_args()
    root = Path(os.environ["HDSWEEP_REAL_DATA"])
    images = {name: pictures(name, root) for name in SETS}
    sides = {str(side): at_side(images, root, side) for side in SIDES}
    keep("likeness", {"sides": sides}, dry_run=arguments.dry_run)


def pictures(name: str, root: Path, *, as_they_are: bool = False) -> dict[str, Picture]:
    """Return the images of a set by id, at 256 px; X-rays equalised unless they are to be as they are."""
    info = all_datasets()[name]
    assert info.find is not None
    assert info.read is not None
    found = {}
    for entry in info.find(root).entries:
        image = read_colour(entry.image) if as_they_are else info.read(entry)[0]
        small = resize_image(image, ORIGINAL).round().clip(0, 255).astype(np.uint8)
        found[entry.id] = small if small.ndim == 3 else np.repeat(small[..., None], 3, axis=2)
    return found


def at_side(images: dict[str, dict[str, Picture]], root: Path, side: int) -> dict[str, Any]:
    stored = {
        name: {key: resize_image(image, side) for key, image in each.items()}
        for name, each in images.items()
    }
    missed = {name: missed_copies(images[name], stored[name], side) for name in SETS}
    for name in ("montgomery", "shenzhen"):
        raw = pictures(name, root, as_they_are=True)
        missed[name]["not equalised"] = count_missed(raw, stored[name], side, lambda image: image)
    started = time.monotonic()
    everything = {f"{name}/{key}": image for name in SETS for key, image in stored[name].items()}
    near, alike = pairs(everything, side)
    return {
        "missed": missed,
        "images": len(everything),
        "pairs": len(everything) * (len(everything) - 1) // 2,
        "near": near,
        "alike": alike,
        "seconds": round(time.monotonic() - started, 1),
    }


def missed_copies(
    originals: dict[str, Picture], stored: dict[str, Picture], side: int
) -> dict[str, str]:
    return {
        what: count_missed(originals, stored, side, change) for what, change in CHANGES.items()
    }


def count_missed(
    originals: dict[str, Picture],
    stored: dict[str, Picture],
    side: int,
    change: Callable[[Picture], Picture],
) -> str:
    keys = list(originals)[:CHANGED]
    found = sum(
        is_found(stored[key], resize_image(change(originals[key]), side), side) for key in keys
    )
    return f"{len(keys) - found} of {len(keys)}"


def is_found(image: Picture, copy: Picture, side: int) -> bool:
    ours, theirs = layout(image).reshape(16, 16), layout(copy).reshape(16, 16)
    best = max(float((ours * each).sum()) for _, each in mirrored(theirs))
    if best < SAME_LAYOUT:
        return False
    at = min(side, DETAIL_SIDE)
    return agreement(detail(image, at), detail(copy, at))[0] >= least_detail(at)


def pairs(images: dict[str, Picture], side: int) -> tuple[int, list[str]]:
    """Return how many pairs have one layout, and which of them look alike."""
    keys, at = list(images), min(side, DETAIL_SIDE)
    layouts = np.stack([layout(image) for image in images.values()])
    look = lru_cache(4096)(lambda index: detail(images[keys[index]], at))
    near, alike = 0, []
    for one, other in candidates(layouts, layouts):
        if one < other:
            near += 1
            agreed, _ = agreement(look(one), look(other))
            if agreed >= least_detail(at):
                alike.append(f"{keys[one]} = {keys[other]}: {agreed:.2f}")
    return near, alike


if __name__ == "__main__":
    main()
