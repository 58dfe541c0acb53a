"""Decoding image files from outside, and the two ways of resizing.

Files are untrusted: few formats, a limit on pixels before any is decoded, checksums verified, and
one error type. Images are resized bilinearly with antialiasing, labels to the nearest pixel.

Pillow resizes because its 8-bit arithmetic is fixed-point, the same on every processor, and takes
fractional boxes. Its BILINEAR is what torch calls bilinear with antialias=True. An output pixel takes
the label at its centre, floor((i + 1/2) * scale), which torch calls "nearest-exact": that is where its
image is sampled. FFHQ-34's official code takes it at the corner, floor(i * scale), as OpenCV does.

Shape suffixes: H height, W width, C channels, S side.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps

from trainables.data.errors import BadImageError
from trainables.data.files.decoded import TIFF_SAMPLES, TIFF_SIGNED, Decoded, is_deep, not_kept
from trainables.data.info import Entry, Form, LabelsAt, Read, Sample
from trainables.data.labels import wrong_label
from trainables.data.later_labels import LaterLabels

FORMATS = ("PNG", "JPEG", "BMP")
OWN_FORMATS = (*FORMATS, "TIFF", "GIF", "WEBP")
"""What datasets of one's own may come in too."""
MANY_FRAMES = ("PNG", "TIFF", "GIF", "WEBP")
"""Formats that may hold several images; of a JPEG with several, the first is the photograph."""
OPAQUE = 255
UPRIGHT = 1  # EXIF orientation; those of `QUARTERS` exchange width and height.
QUARTERS = (5, 6, 7, 8)
TIFF_STARTS = (b"II", b"MM")
JPEG_START, JPEG_PIXELS = b"\xff\xd8", b"\xff\xda"  # What says how it lies comes before pixels.
OF_ORIENTATION = (b"Exif", b"eXIf", b"EXIF", b"Raw profile type", b"adobe", b"XMP", b"xmp")
PNG_EXIF = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
ASPECT_TOLERANCE = 0.02  # Copies of masks differ from their X-ray by a few pixels at most.
MAX_PIXELS = 50_000_000  # The largest X-rays have 4892 x 4020, under 20 million.
TOO_LARGE = f"more than the {MAX_PIXELS:,} pixels that are allowed; make it smaller"

Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the source; fractions allowed."""


def read_grey(
    path: Path, formats: tuple[str, ...] = FORMATS, *, opaque: bool = False
) -> NDArray[np.integer[Any]]:
    """Return grey levels HW at the file's own bit depth; colour is converted to luminance.

    Args:
        opaque: refuse transparent pixels, whose levels nobody sees.

    Raises:
        BadImageError: if the file is no readable image, or its levels may be read in two ways.
    """
    image = _decode_levels(path, formats)
    if opaque:
        _require_opaque(path, image)
    if is_deep(image):  # `convert` would clip it to 8 bits.
        levels_HW = np.asarray(image)
        return levels_HW.astype(levels_HW.dtype.newbyteorder("="))
    return np.asarray(image.convert("L"))


def read_colour(
    path: Path, *, white: int | None = None, formats: tuple[str, ...] = FORMATS
) -> NDArray[np.uint8]:
    """Return HWC, RGB, 8 bit: the pixels of `open_colour`, which raises what this does."""
    return np.asarray(open_colour(path, white=white, formats=formats))


def open_colour(
    path: Path, *, white: int | None = None, formats: tuple[str, ...] = FORMATS
) -> Image.Image:
    """Return a photograph in RGB, upright as its EXIF orientation says; grey and CMYK are converted.

    As Pillow holds it: copied to an array and back, one of a million pixels takes longer than its resizing.

    Args:
        white: level of grey images of more than 8 bits that becomes 255. It belongs to a dataset
            and not to a file: 12-bit levels in files of 16 bits are all below a sixteenth of what
            the files could hold. None where a dataset has no such images.

    Raises:
        BadImageError: if the file is no readable image, has transparent pixels, or has levels of
            more than 8 bits of which it is not known, or not true, that `white` is the largest.
    """
    image = _decode_levels(path, formats)
    if is_deep(image):
        grey_HW = _to_8_bits(path, np.asarray(image).astype(np.int64), white)
        return Image.fromarray(grey_HW).convert("RGB")
    _require_opaque(path, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _decode_levels(path: Path, formats: tuple[str, ...]) -> Image.Image:
    """Return a decoded image whose levels are what it shows.

    Raises:
        BadImageError: as `decode` does, and for forms of TIFF that are decoded as they are stored.
    """
    decoded = decode_with_format(path, formats)
    if is_deep(decoded.image) and decoded.inverted:
        raise BadImageError(
            f"{path}: stores white as 0 in more than 8 bits, which is not read; save it as PNG"
        )
    if not is_deep(decoded.image) and TIFF_SIGNED in decoded.all_of(TIFF_SAMPLES):
        raise BadImageError(
            f"{path}: has levels below 0 of 8 bits, which are not read; save it as PNG"
        )
    image = decoded.image
    if decoded.step > 1 and decoded.clear is not None:
        image.info["transparency"] = decoded.clear
    return image.convert("RGB") if image.mode == "LAB" else image


def _require_opaque(path: Path, image: Image.Image) -> None:
    if "A" in image.mode or "transparency" in image.info:
        opacity, _ = image.convert("RGBA").getchannel("A").getextrema()
        if opacity != OPAQUE:
            raise BadImageError(f"{path}: has transparent pixels, put it on a background first")


def require_shape(path: Path, mask: tuple[int, ...], image: tuple[int, ...]) -> None:
    """Raise a BadImageError if a mask does not have the height and width of its image."""
    if mask[:2] != image[:2]:
        raise BadImageError(f"{path}: mask of {_size(mask)} for an image of {_size(image)} pixels")


def require_aspect(path: Path, mask: tuple[int, ...], image: tuple[int, ...]) -> None:
    """Raise a BadImageError if a mask was turned or cropped; it may be smaller than its image."""
    if abs(mask[0] * image[1] / (mask[1] * image[0]) - 1) > ASPECT_TOLERANCE:
        raise BadImageError(f"{path}: mask of {_size(mask)} for an image of {_size(image)} pixels")


def require_one_turn(entry: Entry) -> None:
    """Raise a BadImageError if of an image and its mask one is turned by an EXIF orientation.

    Certain is only a mask of the turned image's shape, where turning changes the shape.
    """
    if not any(_may_be_turned(path) for path in (entry.image, *entry.masks)):
        return
    how, image = _orientation(entry.image)
    for mask in entry.masks:
        its, shape = _orientation(mask)
        quarter = how in QUARTERS and its == UPRIGHT
        if its == how or (quarter and _lies(image) == -_lies(shape) != 0):
            continue
        turned, other = (entry.image, mask) if how != UPRIGHT else (mask, entry.image)
        raise BadImageError(
            f"{turned}: turned by its EXIF orientation ({max(how, its)}), but {other} is not so{_lying(other)}; "
            "save it as it is to be seen, without an orientation, once you know that the other lies so too"
        )


def _lying(path: Path) -> str:
    array = path.suffix.lower() == ".npy"
    return ", since an array has none: it may lie as the image is stored or seen" if array else ""


def _may_be_turned(path: Path) -> bool:
    """Whether a file may hold an orientation: has a mark of what holds one, or is a TIFF, which does.

    Looking for a few bytes takes a hundredth of the time in which Pillow reads a header.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return False  # Whoever decodes it says what is wrong.
    if content.startswith(JPEG_START):
        content = content.partition(JPEG_PIXELS)[0]
    return content.startswith(TIFF_STARTS) or any(mark in content for mark in OF_ORIENTATION)


def _lies(size: tuple[int, int]) -> int:
    """Return 1 for more width than height, -1 for less, 0 if they are about the same."""
    width, height = size
    return (width > height * (1 + ASPECT_TOLERANCE)) - (height > width * (1 + ASPECT_TOLERANCE))


def _orientation(path: Path) -> tuple[int, tuple[int, int]]:
    """Return the EXIF orientation of a file, and its width and height as stored."""
    try:
        if path.suffix.lower() == ".npy":
            height, width = np.load(path, mmap_mode="r", allow_pickle=False).shape
            return UPRIGHT, (width, height)
        with Image.open(path, formats=OWN_FORMATS) as image:
            # Asked for what it does not have, a PNG file is decoded whole.
            if image.format == "PNG" and not any(mark in path.read_bytes() for mark in PNG_EXIF):
                return UPRIGHT, image.size
            how = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
            turned = image.format == "TIFF" and how in QUARTERS  # Its size is the one to be seen.
            return how, image.size[::-1] if turned else image.size
    except Exception:  # noqa: BLE001 - whoever decodes it says what is wrong
        return UPRIGHT, (0, 0)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Return HW, true inside: above half of the range from 0 to 255, so that masks may be smoothed.

    Masks of the levels 0 and 1 are taken as they mean it too. Nothing is taken from the largest level
    of a file: a mask of the labels 1 and 2, or one that is 1 everywhere, says not what is inside.

    Raises:
        BadImageError: if the file is no readable image, or its levels do not say what is inside.
    """
    levels_HW = read_grey(path)
    full = 255 if levels_HW.dtype == np.uint8 else 65535
    largest = int(levels_HW.max())
    if largest == 0 or 2 * largest > full:
        inside_HW: NDArray[np.bool_] = 2 * levels_HW.astype(np.int64) > full
        return inside_HW
    levels = np.unique(levels_HW).tolist()
    if levels in ([0, 1], [0, 255]):
        return levels_HW > 0
    some = ", ".join(map(str, levels[:4])) + (", ..." if len(levels) > 4 else "")
    raise BadImageError(
        f"{path}: the levels {some} of a mask do not say what is inside; it must have 0 and {full}, "
        "or 0 and 1"
    )


def resize_image(
    image: NDArray[np.uint8] | NDArray[np.float32] | Image.Image,
    side: int,
    box: Box | None = None,
    *,
    sharp: bool = False,
) -> NDArray[Any]:
    """Return uint8 HWC or float32 HW, resized to a square; the aspect ratio is not kept.

    Args:
        box: part to use, all of the image by default.
        sharp: keep fine detail for another resizing to come, which bilinear weights would dampen
            twice; float32 may then leave the range of the input a little.
    """
    how = Image.Resampling.LANCZOS if sharp else Image.Resampling.BILINEAR
    whole = image if isinstance(image, Image.Image) else Image.fromarray(image)
    return np.asarray(whole.resize((side, side), how, box=box))


def resize_labels(
    labels_HW: NDArray[np.uint8] | LaterLabels,
    side: int,
    box: Box | None = None,
    *,
    at: LabelsAt = "centre",
) -> NDArray[np.uint8]:
    """Return labels_SS: each output pixel takes the source pixel in which its centre, or corner, lies.

    Where a centre lies on the edge between two source pixels, as at a scale of 2, it is the later.
    """
    height, width = labels_HW.shape
    left, top, right, bottom = box or (0, 0, width, height)
    rows, columns = _nearest(top, bottom, side, at), _nearest(left, right, side, at)
    if isinstance(labels_HW, LaterLabels):
        return labels_HW.at(rows, columns)
    return labels_HW[rows][:, columns]


def read_sample(read: Read, entry: Entry, form: Form) -> Sample:
    """Read one entry of a release and bring it to the form in which it is stored, RGB.

    Raises:
        BadImageError: if a file cannot be used, or a label is none of the classes.
    """
    require_one_turn(entry)
    image, labels_HW = read(entry)
    wrong = None if isinstance(labels_HW, LaterLabels) else wrong_label(labels_HW, form.classes)
    if wrong:
        raise BadImageError(f"{' and '.join(map(str, entry.masks))}: {wrong}")
    resized = resize_image(image, form.side, sharp=form.cropped)
    levels = resized if resized.dtype == np.uint8 else resized.round().clip(0, 255).astype("u1")
    if levels.ndim == 2:
        levels = np.repeat(levels[:, :, None], 3, axis=2)
    return Sample(
        id=entry.id,
        image_HWC=levels,
        labels_HW=resize_labels(labels_HW, form.side, at=form.labels_at),
        split=entry.split,
    )


def _nearest(start: float, stop: float, count: int, at: LabelsAt) -> NDArray[np.int64]:
    halves = 2 * np.arange(count) + (at == "centre")
    # Multiplied before divided: i * (1 / 3) * 3 would fall below i.
    return np.floor(start + halves * (stop - start) / (2 * count)).astype(np.int64)


def decode(path: Path, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Return a fully decoded image in its own mode, upright as its EXIF orientation says.

    Raises:
        BadImageError: as `decode_with_format` does.
    """
    return decode_with_format(path, formats).image


def decode_with_format(path: Path, formats: tuple[str, ...] = FORMATS) -> Decoded:
    """Return a fully decoded image with what its file says.

    Raises:
        BadImageError: naming the file, whatever the decoder stumbled over; also for several images
            in one file, and for forms of which Pillow would not keep what they show.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # Another library may have asked for half images.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=formats) as image:
                _check_size(image.width, image.height)
                raw_mode, frames = _raw_mode(image), 1
                if image.format in MANY_FRAMES:
                    frames = getattr(image, "n_frames", 1)
                    if image.format == "PNG":
                        image.verify()  # Decoding alone skips the checksums of its pixel data.
                else:
                    _load(image)
            if image.format in MANY_FRAMES:  # What was looked into is no longer at its start.
                with Image.open(path, formats=formats) as image:
                    _load(image)
            format_, tags = str(image.format), dict(getattr(image, "tag_v2", None) or {})
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow's own limit, which is higher than ours, and its own words.
        raise BadImageError(f"{path}: not a readable image: {TOO_LARGE}") from error
    except Exception as error:  # On broken bytes, decoders raise whatever they like.
        raise BadImageError(f"{path}: not a readable image: {error}") from error
    if frames > 1:
        raise BadImageError(f"{path}: holds {frames} images; save each in a file of its own")
    decoded = Decoded(image, format_, raw_mode, tags)
    if unkept := not_kept(path, decoded):
        raise BadImageError(f"{path}: {unkept}")
    return decoded


def _load(image: ImageFile.ImageFile) -> None:
    """Decode an opened image, as every viewer shows it; its mode and palette are kept."""
    # Mapped into memory, a TIFF is turned before its rows are told apart.
    image.filename = ""
    image.load()
    ImageOps.exif_transpose(image, in_place=True)


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Return how an opened file stores a pixel; empty if its decoder does not say."""
    arguments = image.tile[0].args if image.tile else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImageError(f"{width}x{height} pixels, {TOO_LARGE}")


def _to_8_bits(path: Path, levels_HW: NDArray[np.int64], white: int | None) -> NDArray[np.uint8]:
    largest = int(levels_HW.max())
    if white is None:
        raise BadImageError(
            f"{path}: grey levels of 16 bits, up to {largest}, where images have 8; nothing says "
            "which level is white"
        )
    if largest > white or levels_HW.min() < 0:
        raise BadImageError(f"{path}: a grey level of {largest}, but white is {white}")
    scaled: NDArray[np.uint8] = ((levels_HW * 255 + white // 2) // white).astype(np.uint8)
    return scaled
