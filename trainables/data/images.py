"""Decoding image files from outside, and the two ways of resizing.

Files are untrusted: few formats, a limit on pixels before any is decoded, checksums verified, and
one error type. Images are resized bilinearly with antialiasing, labels to the nearest pixel.

Pillow resizes because its 8-bit arithmetic is fixed-point, the same on every processor, and takes
fractional boxes. Its BILINEAR is what torch calls bilinear with antialias=True. Labels follow
OpenCV's and torch's "nearest", floor(i * scale), and not Pillow's NEAREST.

Shape suffixes: H height, W width, C channels, S side.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from trainables.data.errors import BadImageError
from trainables.data.info import IGNORED, Entry, Read, Sample
from trainables.data.labels import wrong_label

FORMATS = ("PNG", "JPEG", "BMP")
OPAQUE = 255
ASPECT_TOLERANCE = 0.02  # Copies of masks differ from their X-ray by a few pixels at most.
MAX_PIXELS = 50_000_000  # The largest X-rays have 4892 x 4020, under 20 million.

Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the source; fractions allowed."""


def read_grey(path: Path) -> NDArray[np.integer[Any]]:
    """Return grey levels HW at the file's own bit depth; colour is converted to luminance.

    Raises:
        BadImageError: if the file is no readable image.
    """
    image = decode(path)
    if image.mode.startswith("I"):  # 16 bit and more; `convert` would clip it to 8.
        levels_HW = np.asarray(image)
        return levels_HW.astype(levels_HW.dtype.newbyteorder("="))
    return np.asarray(image.convert("L"))


def read_colour(path: Path) -> NDArray[np.uint8]:
    """Return HWC, RGB, 8 bit, upright as its EXIF orientation says; grey and CMYK are converted.

    Raises:
        BadImageError: if the file is no readable image, or has transparent pixels.
    """
    image = decode(path)
    if image.mode.startswith("I"):
        grey_HW = (np.asarray(image) // 256).astype(np.uint8)
        return np.repeat(grey_HW[:, :, None], 3, axis=2)
    if "A" in image.mode or "transparency" in image.info:
        opacity, _ = image.convert("RGBA").getchannel("A").getextrema()
        if opacity != OPAQUE:
            raise BadImageError(f"{path}: has transparent pixels, put it on a background first")
    return np.asarray(image.convert("RGB"))


def read_npy_labels(path: Path) -> NDArray[np.uint8]:
    """Return labels_HW from a NumPy file.

    Raises:
        BadImageError: if it is no array, or not one of two dimensions with integers in [0, 255].
    """
    try:
        labels_HW = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadImageError(f"{path}: not a readable array: {error}") from error
    if not isinstance(labels_HW, np.ndarray):
        raise BadImageError(f"{path}: holds several arrays, a label map is one")
    if labels_HW.ndim != 2 or not labels_HW.size:
        raise BadImageError(f"{path}: shape {labels_HW.shape}, a label map has two dimensions")
    if not np.issubdtype(labels_HW.dtype, np.integer):
        raise BadImageError(f"{path}: {labels_HW.dtype}, a label map has integers")
    if labels_HW.min() < 0 or labels_HW.max() > IGNORED:
        raise BadImageError(f"{path}: labels {labels_HW.min()} to {labels_HW.max()}, above 255")
    return labels_HW.astype(np.uint8)


def require_shape(path: Path, mask: tuple[int, ...], image: tuple[int, ...]) -> None:
    """Raise a BadImageError if a mask does not have the height and width of its image."""
    if mask[:2] != image[:2]:
        raise BadImageError(f"{path}: mask of {_size(mask)} for an image of {_size(image)} pixels")


def require_aspect(path: Path, mask: tuple[int, ...], image: tuple[int, ...]) -> None:
    """Raise a BadImageError if a mask was turned or cropped; it may be smaller than its image."""
    if abs(mask[0] * image[1] / (mask[1] * image[0]) - 1) > ASPECT_TOLERANCE:
        raise BadImageError(f"{path}: mask of {_size(mask)} for an image of {_size(image)} pixels")


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Return HW, true above half of the largest level: masks come as 0/1, 0/255, 1-bit, smoothed.

    Raises:
        BadImageError: if the file is no readable image.
    """
    levels_HW = read_grey(path)
    above: NDArray[np.bool_] = levels_HW > levels_HW.max() / 2
    return above


def resize_image(
    image: NDArray[np.uint8] | NDArray[np.float32], side: int, box: Box | None = None
) -> NDArray[Any]:
    """Return uint8 HWC or float32 HW, resized to a square; the aspect ratio is not kept.

    Args:
        box: part to use, all of the image by default.
    """
    resized = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized)


def resize_labels(
    labels_HW: NDArray[np.uint8], side: int, box: Box | None = None
) -> NDArray[np.uint8]:
    """Return labels_SS: output pixel i takes source pixel floor(start + i * scale)."""
    height, width = labels_HW.shape
    left, top, right, bottom = box or (0, 0, width, height)
    rows, columns = _nearest(top, bottom, side), _nearest(left, right, side)
    return labels_HW[rows][:, columns]


def read_sample(read: Read, entry: Entry, side: int, *, classes: int) -> Sample:
    """Read one entry of a release and bring it to its stored size, RGB.

    Raises:
        BadImageError: if a file cannot be used, or a label is none of the classes.
    """
    image, labels_HW = read(entry)
    if wrong := wrong_label(labels_HW, classes):
        raise BadImageError(f"{' and '.join(map(str, entry.masks))}: {wrong}")
    resized = resize_image(image, side)
    levels = resized if resized.dtype == np.uint8 else resized.round().clip(0, 255).astype("u1")
    if levels.ndim == 2:
        levels = np.repeat(levels[:, :, None], 3, axis=2)
    return Sample(
        id=entry.id,
        image_HWC=levels,
        labels_HW=resize_labels(labels_HW, side),
        split=entry.split,
    )


def _nearest(start: float, stop: float, count: int) -> NDArray[np.int64]:
    # Multiplied before divided: i * (1 / 3) * 3 would fall below i.
    return np.floor(start + np.arange(count) * (stop - start) / count).astype(np.int64)


def decode(path: Path) -> Image.Image:
    """Return a fully decoded image in its own mode, upright as its EXIF orientation says.

    Raises:
        BadImageError: naming the file, whatever the decoder stumbled over.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # Another library may have asked for half images.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                _check_size(image)
                image.verify()  # Decoding alone skips the checksums of PNG pixel data.
            with Image.open(path, formats=FORMATS) as image:
                image.load()
                # As every viewer shows it; Pillow's own mode and palette are kept.
                upright = ImageOps.exif_transpose(image)
    except Exception as error:  # On broken bytes, decoders raise whatever they like.
        raise BadImageError(f"{path}: not a readable image: {error}") from error
    return upright


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise BadImageError(
            f"{image.width}x{image.height} pixels, more than the {MAX_PIXELS:,} that are allowed"
        )
