"""Forms of TIFF, BMP and NumPy that decoders read as something else: what they show, or refused."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.trainables.test_data_own_masks import chunk, few_bits
from trainables.data.errors import BadImageError, DatasetError
from trainables.data.files.arrays import read_npy_labels
from trainables.data.files.images import (
    OWN_FORMATS,
    decode,
    read_colour,
    read_grey,
    require_one_turn,
)
from trainables.data.info import Entry
from trainables.data.own.describe import describe
from trainables.data.own.imported import info_of
from trainables.data.own.masks import open_mask
from trainables.data.own.reading import read_pair

SIDE = 8
SQUARE = np.zeros((SIDE, SIDE), np.uint8)
SQUARE[2:5, 1:7] = 1
RAMP = np.tile(np.linspace(0, 1, SIDE, dtype=np.float32), (SIDE, 1))
WHITE_IS_0, BLACK_IS_0, COLOUR, LAB = 0, 1, 2, 8
UNSIGNED, SIGNED, FLOAT = 1, 2, 3


def tiff(values, photometric, sample=UNSIGNED, *, channels_apart=False):
    """Return an uncompressed TIFF of HW or HWC values, or CHW if each channel lies for itself."""
    values = np.ascontiguousarray(values)
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    channels = 1 if values.ndim == 2 else values.shape[0 if channels_apart else 2]
    strips = channels if channels_apart else 1
    strip = len(data) // strips
    tags = {
        256: ("I", [SIDE]),
        257: ("I", [SIDE]),
        258: ("H", [values.dtype.itemsize * 8] * channels),
        259: ("H", [1]),
        262: ("H", [photometric]),
        273: ("I", [8 + i * strip for i in range(strips)]),
        277: ("H", [channels]),
        278: ("I", [SIDE]),
        279: ("I", [strip] * strips),
        284: ("H", [1 + channels_apart]),
        339: ("H", [sample] * channels),
    }
    at = 8 + len(data)
    behind = at + 2 + 12 * len(tags) + 4
    entries, more = b"", b""
    for tag, (form, numbers) in tags.items():
        raw = struct.pack(f"<{len(numbers)}{form}", *numbers)
        if len(raw) > 4:
            raw, more = struct.pack("<I", behind + len(more)), more + raw
        entries += struct.pack("<HHI", tag, {"H": 3, "I": 4}[form], len(numbers)) + raw.ljust(
            4, b"\0"
        )
    head = struct.pack("<2sHI", b"II", 42, at)
    return head + data + struct.pack("<H", len(tags)) + entries + b"\0" * 4 + more


def bmp_of_two_colours(indices):
    """Return a BMP of 8 bits whose table has black and white only, as MATLAB writes one."""
    table, data = bytes([0, 0, 0, 0, 255, 255, 255, 0]), indices[::-1].tobytes()
    offset = 14 + 40 + len(table)
    head = struct.pack("<2sIHHI", b"BM", offset + len(data), 0, 0, offset)
    info = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 8, 0, len(data), 0, 0, 2, 0)
    return head + info + table + data


def labels_of(root, content, ending, lines="a\nb", **said):
    for name in ("images", "masks"):
        (root / name).mkdir()
    Image.new("RGB", (SIDE, SIDE)).save(root / "images/0.png")
    (root / f"masks/0.{ending}").write_bytes(content)
    (root / "classes.txt").write_text(lines)
    dataset = describe("mine", root / "images", root / "masks", root / "classes.txt", **said)
    (entry,) = info_of(dataset).find(None).entries
    return read_pair(dataset, entry)[1]


@pytest.mark.parametrize("white", [np.uint8(255), np.uint16(65535)])
@pytest.mark.parametrize(
    ("lines", "said"),
    [("a\nb", {"encoding": "binary"}), ("a 0 0 0\nb 255 255 255", {})],
)
def test_white_that_is_stored_as_0_is_inside_at_any_depth(tmp_path, white, lines, said):
    stored = np.where(SQUARE, 0 * white, white)
    labels = labels_of(tmp_path, tiff(stored, WHITE_IS_0), "tif", lines, **said)
    np.testing.assert_array_equal(labels, SQUARE)


@pytest.mark.parametrize("encoding", ["binary", "levels"])
def test_white_that_is_stored_as_0_among_few_deep_levels_is_not_guessed(tmp_path, encoding):
    stored = tiff(SQUARE.astype(np.uint16), WHITE_IS_0)
    with pytest.raises(DatasetError, match="not known what it shows; save it as PNG"):
        labels_of(tmp_path, stored, "tif", encoding=encoding)


UNREAD = {
    "fractions": (tiff(RAMP, BLACK_IS_0, FLOAT), "tif", "fractions are not read"),
    "deep, white is 0": (
        tiff((RAMP * 4095).astype(np.uint16), WHITE_IS_0),
        "tif",
        "stores white as 0 in more than 8 bits",
    ),
    "levels below 0": (
        tiff((RAMP * 200 - 100).astype(np.int8), BLACK_IS_0, SIGNED),
        "tif",
        "levels below 0",
    ),
    "deep colours, each channel for itself": (
        tiff(np.stack([RAMP * 65535] * 3).astype(np.uint16), COLOUR, channels_apart=True),
        "tif",
        "colours of 16 bits",
    ),
    "two colours in 8 bits": (bmp_of_two_colours(SQUARE), "bmp", "black and white in more than"),
}


@pytest.mark.parametrize("case", UNREAD)
@pytest.mark.parametrize("read", [read_colour, read_grey])
def test_images_that_would_be_decoded_as_something_else_are_refused(tmp_path, case, read):
    content, ending, message = UNREAD[case]
    path = tmp_path / f"0.{ending}"
    path.write_bytes(content)
    white = {"white": 65535} if read is read_colour else {}
    with pytest.raises(DatasetError, match=message):
        read(path, formats=OWN_FORMATS, **white)


@pytest.mark.parametrize(
    "case",
    ["fractions", "deep colours, each channel for itself", "two colours in 8 bits"],
)
def test_masks_that_would_be_decoded_as_something_else_are_refused(tmp_path, case):
    content, ending, message = UNREAD[case]
    path = tmp_path / f"0.{ending}"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        open_mask(path)


def test_colours_of_8_bits_are_the_same_however_their_channels_lie(tmp_path):
    colours_HWC = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    (tmp_path / "a.tif").write_bytes(tiff(colours_HWC, COLOUR))
    apart = tiff(colours_HWC.transpose(2, 0, 1), COLOUR, channels_apart=True)
    (tmp_path / "b.tif").write_bytes(apart)
    for name in ("a.tif", "b.tif"):
        read = read_colour(tmp_path / name, formats=OWN_FORMATS)
        np.testing.assert_array_equal(read, colours_HWC)


def test_grey_levels_of_lab_are_those_of_its_colours(tmp_path):
    lab_HWC = np.stack([RAMP * 255, np.zeros_like(RAMP), np.zeros_like(RAMP)], 2).astype(np.uint8)
    (tmp_path / "lab.tif").write_bytes(tiff(lab_HWC, LAB))
    colours = Image.fromarray(read_colour(tmp_path / "lab.tif", formats=OWN_FORMATS))
    np.testing.assert_array_equal(
        read_grey(tmp_path / "lab.tif", OWN_FORMATS), np.asarray(colours.convert("L"))
    )


def test_transparent_pixels_of_an_x_ray_are_refused_as_those_of_photographs(tmp_path):
    grey = Image.fromarray((RAMP * 255).astype(np.uint8))
    Image.merge("LA", (grey, grey)).save(tmp_path / "0.png")
    with pytest.raises(DatasetError, match="transparent"):
        read_grey(tmp_path / "0.png", opaque=True)


def test_times_are_no_labels(tmp_path):
    np.save(tmp_path / "0.npy", SQUARE.astype("m8[s]"))
    with pytest.raises(DatasetError, match=r"timedelta64\[s\], a label map has integers"):
        open_mask(tmp_path / "0.npy")


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "RGB", "CMYK"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_turned_tiff_files_come_back_upright(tmp_path, mode, compression):
    stored = np.arange(8 * 12).reshape(8, 12).astype(np.uint8)
    image = Image.fromarray(stored, mode="P") if mode == "P" else Image.fromarray(stored)
    if mode == "P":
        image.putpalette([level for level in range(256) for _ in range(3)])
    elif mode == "I;16":
        image = Image.fromarray(stored.astype(np.uint16))
    else:
        image = image.convert(mode)
    exif = Image.Exif()
    exif[0x112] = 6  # To be turned by a quarter, clockwise.
    image.save(
        tmp_path / "0.tif", exif=exif, **({"compression": compression} if compression else {})
    )
    read = decode(tmp_path / "0.tif", OWN_FORMATS)
    levels = np.asarray(read if mode in ("L", "P", "I;16") else read.convert("L"))
    np.testing.assert_array_equal(levels, np.rot90(stored, -1))


@pytest.mark.parametrize("kind", ["tif", "png", "jpg"])
def test_a_mask_of_the_shape_to_be_seen_fits_a_turned_image_of_any_format(tmp_path, kind):
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", (8, 12)).save(tmp_path / f"image.{kind}", exif=exif)
    for name, size in (("seen", (12, 8)), ("stored", (8, 12))):
        Image.new("L", size).save(tmp_path / f"{name}.png")
    entries = {
        name: Entry(id="0", image=tmp_path / f"image.{kind}", masks=(tmp_path / f"{name}.png",))
        for name in ("seen", "stored")
    }
    require_one_turn(entries["seen"])
    with pytest.raises(DatasetError, match="turned by its EXIF orientation"):
        require_one_turn(entries["stored"])


def fits(root, bits, values, clear):
    """Write a grey PNG of few bits with a transparent level as image and as mask."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
        few_bits(root / name / "0.png", values, bits, clear)
    (root / "classes.txt").write_text("a\nb")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_transparent_level_of_an_image_of_few_bits_is_the_one_that_is_stored(tmp_path, bits):
    fits(tmp_path, bits, SQUARE * (2**bits - 1), 2**bits - 1)
    with pytest.raises(BadImageError, match="has transparent pixels"):
        read_colour(tmp_path / "images/0.png")
    if bits > 1:
        few_bits(tmp_path / "images/1.png", SQUARE * (2**bits - 1), bits, 1)
        assert set(np.unique(read_colour(tmp_path / "images/1.png"))) == {0, 255}


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("clear", [0, 1])
def test_the_transparent_level_of_a_mask_of_few_bits_has_to_be_said(tmp_path, bits, clear):
    root = tmp_path / "set"
    fits(root, bits, SQUARE, clear)
    Image.new("RGB", (SIDE, SIDE)).save(root / "images/0.png")
    places = (root / "images", root / "masks", root / "classes.txt")
    with pytest.raises(DatasetError, match=r"0\.png: has transparent pixels, .*--transparent"):
        describe("mine", *places)
    dataset = describe("mine", *places, transparent="ab"[clear])
    (entry,) = info_of(dataset).find(None).entries
    np.testing.assert_array_equal(read_pair(dataset, entry)[1], SQUARE)


def short_palette():
    """Return a PNG with the indices 0 and 1 and a palette of one colour, as some programs crop it."""
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 3, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in SQUARE)
    parts = (
        (b"IHDR", header),
        (b"PLTE", bytes(3)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("lines", ["a\nb", "a 0 0 0\nb 255 0 0"])
def test_an_index_without_a_colour_says_so(tmp_path, lines):
    with pytest.raises(DatasetError, match="index 1, and its palette has no colour for it; save"):
        labels_of(tmp_path, short_palette(), "png", lines)


def test_an_index_without_a_colour_is_a_class_where_the_index_was_asked_for(tmp_path):
    labels_HW = labels_of(tmp_path, short_palette(), "png", encoding="palette")
    np.testing.assert_array_equal(labels_HW, SQUARE)


@pytest.mark.parametrize("chunks", [b"zTXt", b"iCCP"])
def test_a_small_file_that_unpacks_to_much_is_refused(tmp_path, chunks):
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    bomb = b"x\0\0" + zlib.compress(bytes(100_000_000))
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in SQUARE))
    parts = ((b"IHDR", header), (chunks, bomb), (b"IDAT", rows), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    with pytest.raises(DatasetError, match="too large"):
        labels_of(tmp_path, content, "png")
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0)
    (tmp_path / "huge.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    with pytest.raises(BadImageError, match="more than the 50,000,000 pixels"):
        open_mask(tmp_path / "huge.png")


def test_an_array_beside_a_turned_image_says_what_is_not_known(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 3
    Image.fromarray(np.kron(SQUARE, np.ones((1, 2), np.uint8))).save(tmp_path / "0.png", exif=exif)
    np.save(tmp_path / "0.npy", np.kron(SQUARE, np.ones((1, 2), np.uint8)))
    entry = Entry(id="0", image=tmp_path / "0.png", masks=(tmp_path / "0.npy",))
    with pytest.raises(
        BadImageError, match=r"orientation \(3\).*0\.npy .*as the image is stored or seen"
    ):
        require_one_turn(entry)


@pytest.mark.parametrize("read", [open_mask, read_npy_labels])
@pytest.mark.parametrize(("sides", "there"), [((10**6, 10**6), False), ((10**5, 10**5), True)])
def test_an_array_that_says_or_holds_too_much_is_refused_before_it_is_read(
    tmp_path, read, sides, there
):
    """The second is a file with holes, which takes no space."""
    path = tmp_path / "0.npy"
    told = {"descr": "|u1", "fortran_order": False, "shape": sides}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, told)
        if there:
            file.truncate(file.tell() + sides[0] * sides[1])
    with pytest.raises(BadImageError, match=r"0\.npy: not a readable array"):
        read(path)
