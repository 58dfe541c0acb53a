"""ImageNet weights in a home folder: where they lie, and their checksums.

The checksum is part of a run's key, so that other weights are other runs. Hashing 180 MB takes
half a second, so it is remembered beside the file for as long as size and time stay the same.

Any ResNet-50 fits the encoder. Whether a file is the published one is told by the checksum of what was
imported, which is noted beside the stored file; anything else is named by that checksum, and no number
built on it is held against the paper's.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from trainables.methods import Family
from trainables.remembered import remembered

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
    published: tuple[str, ...] = ()
    """SHA-256 of the published files, where it is known."""


@dataclass(frozen=True)
class Origin:
    """Where stored weights came from."""

    sha256: str
    """Of the file that was imported; of the stored file itself where nothing is noted."""
    published: bool
    """Whether that is the published file."""


BACKBONES: dict[Family, Backbone] = {
    "deeplab": Backbone(
        "resnet50",
        "torchvision's ResNet50_Weights.IMAGENET1K_V1",
        ("blocks", "base_width", "expansion"),
        ("0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",),
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
    memory = path.with_name(f"{path.name}.sha256.json")
    return remembered(path, memory, lambda: file_sha256(path))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, reading all of it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def note_origin(path: Path, source_sha256: str, *, from_publisher: bool) -> None:
    """Note what stored weights were made from, for as long as they are what they are now.

    Args:
        from_publisher: whether the file was downloaded from where it is published, which is all that
            can be known of it where its checksum is not.
    """
    noted = {
        "stored": checksum(path),
        "source": source_sha256,
        "from_publisher": from_publisher,
    }
    _note(path).write_text(json.dumps(noted, indent=1) + "\n", encoding="utf-8")


def origin_of(backbone: Backbone, path: Path) -> Origin:
    """Return where stored weights came from."""
    stored = checksum(path)
    source, from_publisher = stored, False
    try:
        noted = json.loads(_note(path).read_bytes())
        if noted["stored"] == stored:
            source, from_publisher = str(noted["source"]), noted["from_publisher"] is True
    except (OSError, ValueError, KeyError, TypeError):
        pass  # Put there by hand.
    # A known checksum decides; whoever publishes may replace a file, but not by that one.
    published = source in backbone.published if backbone.published else from_publisher
    return Origin(source, published)


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.origin.json")
