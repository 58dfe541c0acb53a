"""What a decoded file is, and the forms that Pillow decodes as something else than they show."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from PIL import Image

TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_SAMPLES = 258, 262, 339
TIFF_WHITE_IS_ZERO, TIFF_SIGNED = 0, 2
STEPS = {"1": 255, "L;2": 85, "L;4": 17}
"""Between the levels that Pillow shows of files with fewer than 8 bits, by how they store them."""
BMP_OLD_HEADER = 12  # Bytes; all others have the bits of a pixel further behind.


class Decoded(NamedTuple):
    """A decoded image, and what its file says that the pixels no longer do."""

    image: Image.Image
    """In its own mode, upright as its EXIF orientation says."""
    format: str
    raw_mode: str
    """How the file stores a pixel, in Pillow's words, such as `L;2` for levels of two bits."""
    tags: Mapping[int, object]
    """Of a TIFF, by number."""

    @property
    def inverted(self) -> bool:
        """Whether it is a TIFF that stores white as 0."""
        return self.tags.get(TIFF_PHOTOMETRIC) == TIFF_WHITE_IS_ZERO

    @property
    def step(self) -> int:
        """Between the grey levels that are shown of neighbours that are stored."""
        return STEPS.get("1" if self.image.mode == "1" else self.raw_mode.rstrip("IR"), 1)

    @property
    def clear(self) -> object:
        """The transparent level of a grey image, as it is shown, which Pillow has as it is stored."""
        clear = self.image.info.get("transparency")
        if self.image.mode == "1" and isinstance(clear, int):
            return 255 * bool(clear)
        return clear * self.step if isinstance(clear, int) and self.image.mode == "L" else clear

    def all_of(self, tag: int) -> tuple[object, ...]:
        """Return the values of a tag that has one for each channel."""
        value = self.tags.get(tag, ())
        return value if isinstance(value, tuple) else (value,)


def is_deep(image: Image.Image) -> bool:
    """Whether an image has grey levels of more than 8 bits."""
    return image.mode.startswith("I")


def not_kept(path: Path, decoded: Decoded) -> str | None:
    """Return what a file has that Pillow does not decode as it is meant, though it decodes something."""
    deep_TIFF = any(isinstance(bits, int) and bits > 8 for bits in decoded.all_of(TIFF_BITS))
    if decoded.image.mode == "F":
        return "levels that are fractions are not read; save it with 8 or 16 bits, as PNG"
    # Of colours of 16 bits only the upper 8 are kept; of a TIFF that has each channel for itself, neither.
    if ("16" in decoded.raw_mode or deep_TIFF) and not is_deep(decoded.image):
        return "colours of 16 bits are not read; save it with 8"
    # The number of colours is taken for that of bits.
    if decoded.format == "BMP" and decoded.raw_mode == "1" and _bmp_bits(path) != 1:
        return "a BMP of black and white in more than one bit is not read; save it as PNG"
    return None


def _bmp_bits(path: Path) -> int:
    """Return the bits of a pixel of a BMP."""
    with path.open("rb") as file:
        header = file.read(30)
    old = int.from_bytes(header[14:18], "little") == BMP_OLD_HEADER
    return int.from_bytes(header[24:26] if old else header[28:30], "little")
