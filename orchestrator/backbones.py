"""ImageNet weights in a home folder: where they lie, and their checksums.

The checksum is part of a run's key, so that other weights are other runs. Hashing 180 MB takes
half a second, so it is remembered beside the file for as long as size and time stay the same.
"""

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from trainables.methods import Family

ENDINGS = (".safetensors", ".pth", ".pt", ".bin")


@dataclass(frozen=True)
class Backbone:
    """Published encoder weights that a family of networks starts from."""

    name: str
    """Stem of the file in `<home>/weights`."""
    origin: str
    """What to download, in words."""
    fields: tuple[str, ...]
    """Of the network's configuration: those that must have their defaults for the weights to fit."""


BACKBONES: dict[Family, Backbone] = {
    "deeplab": Backbone(
        "resnet50",
        "torchvision's ResNet50_Weights.IMAGENET1K_V1",
        ("blocks", "base_width", "expansion"),
    ),
    "segformer": Backbone(
        "mit_b3",
        "nvidia/mit-b3 from the Hugging Face Hub",
        ("widths", "depths", "heads", "reductions"),
    ),
}


def find_weights(home: Path, name: str) -> Path | None:
    """Return the file of the backbone's weights; None if it is not in the home folder."""
    paths = [home / "weights" / f"{name}{ending}" for ending in ENDINGS]
    return next((path for path in paths if path.is_file()), None)


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file's content, remembered in `<file>.sha256.json`."""
    status = path.stat()
    now = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    memory = path.with_name(f"{path.name}.sha256.json")
    try:
        known = json.loads(memory.read_text())
        if {key: known[key] for key in now} == now:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # Nothing remembered, or nothing readable: hash again.
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with contextlib.suppress(OSError):  # A read-only folder only makes planning slower.
        memory.write_text(json.dumps({**now, "sha256": digest}))
    return digest
