"""Masks mean what they say: whatever they are written as, labels come back exactly or are refused.

Every way of writing a label map is a *writer*: a file form with its mode, bit depth and order of colours.
It says itself what a person would have to say who has such files; what may be unsaid is drawn.
"""

import struct
import tempfile
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from trainables.data.errors import DatasetError
from trainables.data.info import IGNORED
from trainables.data.own import describe as describing
from trainables.data.own.describe import look_at
from trainables.data.own.masks import open_mask
from trainables.data.own.reading import read_pair
from trainables.data.own.said import Said

COLOURS = [
    (0, 0, 0),
    (255, 255, 255),
    (255, 0, 0),
    (0, 128, 64),
    (128, 128, 128),
    (1, 1, 1),
    (9, 0, 9),
]
VOID = (224, 224, 192)


@dataclass
class Case:
    """Label maps that are written, and what was said about them."""

    labels: list
    classes: int
    colours: list
    order: list
    """Index of each class in palettes."""
    first: int = 64
    """Masks that are looked at before the others are held against them."""
    said: dict = field(default_factory=dict)
    lines: list = field(default_factory=list)
    pattern: str = ""
    """Of the masks, if they have one."""

    def with_colours(self):
        self.lines = [
            f"{n} {' '.join(map(str, c))}" for n, c in zip("abcdefg", self.colours, strict=True)
        ]
        if any((each == IGNORED).any() for each in self.labels):
            self.said["ignore"] = (",".join(map(str, VOID)),)

    def rgb(self, labels):
        table = np.zeros((256, 3), np.uint8)
        table[: self.classes] = self.colours[: self.classes]
        table[IGNORED] = VOID
        return table[labels]

    def has_ignored(self):
        return any((each == IGNORED).any() for each in self.labels)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def few_bits(path, values, bits, clear=None):
    """Write a grey PNG of 1, 2 or 4 bits, perhaps with a transparent level, which Pillow does not."""
    height, width = values.shape
    rows = b""
    for row in values:
        text = "".join(f"{int(each):0{bits}b}" for each in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    transparent = b"" if clear is None else chunk(b"tRNS", struct.pack(">H", clear))
    content = chunk(b"IHDR", header) + transparent + chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b""))


def interlaced(path, values):
    """Write an 8-bit grey PNG in the seven passes of Adam7, which Pillow does not."""
    height, width = values.shape
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    rows = b""
    for left, top, across, down in [*passes, (0, 1, 1, 2)]:
        part = values[top::down, left::across]
        rows += b"".join(b"\0" + row.tobytes() for row in part if row.size)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b""))


def lossless(image, stem, form):
    path = stem.with_suffix(f".{form}")
    image.save(path, **({"lossless": True, "exact": True} if form == "webp" else {}))


def ids_grey(case, labels, stem, form):
    lossless(Image.fromarray(labels), stem, form)


def ids_in_three_channels(case, labels, stem, form):
    lossless(Image.fromarray(np.repeat(labels[..., None], 3, axis=2)), stem, form)


def ids_grey_opaque(case, labels, stem, form):
    alpha = Image.new("L", labels.shape[::-1], 255)
    lossless(Image.merge("LA", (Image.fromarray(labels), alpha)), stem, form)


def ids_deep(case, labels, stem, form):
    lossless(Image.fromarray(labels.astype(np.uint16)), stem, form)


def ids_of_few_bits(bits):
    def write(case, labels, stem, form):
        if labels.max() >= 2**bits:
            raise Unwritable
        few_bits(stem.with_suffix(".png"), labels, bits)

    return write


def ids_as_palette(case, labels, stem, form):
    image = Image.fromarray(labels, mode="P")
    image.putpalette([c for i in range(256) for c in (i, i, i)])
    lossless(image, stem, form)


def binary_grey(case, labels, stem, form):
    if case.classes > 2 or case.has_ignored():
        raise Unwritable
    lossless(Image.fromarray(labels * 255), stem, form)


def binary_deep(case, labels, stem, form):
    if case.classes > 2 or case.has_ignored():
        raise Unwritable
    lossless(Image.fromarray(labels.astype(np.uint16) * 65535), stem, form)


def binary_bits(case, labels, stem, form):
    if case.classes > 2 or case.has_ignored():
        raise Unwritable
    lossless(Image.fromarray(labels * 255).convert("1"), stem, form)


def binary_converted(case, labels, stem, form):
    if case.classes > 2 or case.has_ignored():
        raise Unwritable
    lossless(Image.fromarray(labels * 255).convert("P"), stem, form)


def binary_quantized(case, labels, stem, form):
    if case.classes > 2 or case.has_ignored():
        raise Unwritable
    lossless(Image.fromarray(labels * 255).quantize(2), stem, form)


def binary_jpeg(case, labels, stem, form):
    if case.classes > 2 or case.has_ignored():
        raise Unwritable
    large = np.kron(labels, np.ones((8, 8), np.uint8)) * 255
    Image.fromarray(large).save(stem.with_suffix(".jpg"), quality=95)


def white_is_zero(case, labels, stem, form):
    if case.classes > 2 or case.has_ignored():
        raise Unwritable
    Image.fromarray(labels * 255).convert("1").save(stem.with_suffix(".tif"), tiffinfo={262: 0})


def palette(case, labels, stem, form):
    """As VOC does: the index is the class, whatever its colour."""
    image = Image.fromarray(labels, mode="P")
    colours = [(0, 0, 0)] * 256
    colours[: case.classes], colours[IGNORED] = case.colours[: case.classes], VOID
    image.putpalette([c for each in colours for c in each])
    lossless(image, stem, form)


def coloured(case, labels, stem, form):
    case.with_colours()
    lossless(Image.fromarray(case.rgb(labels)), stem, form)


def coloured_opaque(case, labels, stem, form):
    case.with_colours()
    lossless(Image.fromarray(case.rgb(labels)).convert("RGBA"), stem, form)


def coloured_palette(case, labels, stem, form):
    """The index is any, the colour is the class."""
    case.with_colours()
    index = np.zeros(256, np.uint8)
    index[: case.classes], index[IGNORED] = case.order[: case.classes], 255
    image = Image.fromarray(index[labels], mode="P")
    colours = [(77, 77, 77)] * 256
    for label in range(case.classes):
        colours[case.order[label]] = case.colours[label]
    colours[255] = VOID
    image.putpalette([c for each in colours for c in each])
    lossless(image, stem, form)


def coloured_greys(case, labels, stem, form):
    """Classes listed as greys, in an image of one channel or of one bit."""
    greys = [
        (0, 0, 0),
        (255, 255, 255),
        (128, 128, 128),
        (9, 9, 9),
        (7, 7, 7),
        (3, 3, 3),
        (1, 1, 1),
    ]
    case.colours = [greys[i % 7] for i in case.order]
    if len(set(case.colours[: case.classes])) < case.classes or case.has_ignored():
        raise Unwritable
    case.with_colours()
    levels = np.array([c[0] for c in case.colours], np.uint8)[labels]
    image = Image.fromarray(levels)
    two = {0, 255} == {c[0] for c in case.colours[: case.classes]}
    lossless(image.convert("1") if two else image, stem, form)


def numbered(case, labels, stem, form):
    """Classes with numbers of their own."""
    numbers = [3 * i + 1 for i in case.order]
    case.lines = [f"{n} {name}" for n, name in zip(numbers, "abcdefg", strict=True)]
    table = np.zeros(256, np.uint8)
    table[: case.classes], table[IGNORED] = numbers[: case.classes], IGNORED
    lossless(Image.fromarray(table[labels]), stem, form)


def array(dtype):
    def write(case, labels, stem, form):
        values = labels.astype(dtype)
        if np.issubdtype(dtype, np.signedinteger):
            values[labels == IGNORED] = -1
        np.save(stem.with_suffix(".npy"), values)

    return write


def transparent_background(case, labels, stem, form):
    case.with_colours()
    rgba = np.dstack([case.rgb(labels), np.where(labels == 0, 0, 255).astype(np.uint8)])
    lossless(Image.fromarray(rgba), stem, form)
    case.said["transparent"] = "a"


def ids_interlaced(case, labels, stem, form):
    interlaced(stem.with_suffix(".png"), labels)


def ids_compressed(how):
    def write(case, labels, stem, form):
        Image.fromarray(labels).save(stem.with_suffix(".tif"), compression=how)

    return write


def palette_of_few_bits(bits):
    def write(case, labels, stem, form):
        if labels.max() >= 2**bits:
            raise Unwritable
        image = Image.fromarray(labels, mode="P")
        image.putpalette([c for each in case.colours[: 2**bits] for c in each])
        image.save(stem.with_suffix(".png"), bits=bits)

    return write


def transparent_index(case, labels, stem, form):
    """The background is the transparent index, whatever colour lies there."""
    case.with_colours()
    case.said["transparent"] = "a"
    index = np.arange(256, dtype=np.uint8)
    index[0] = case.classes
    image = Image.fromarray(index[labels], mode="P")
    colours = [*case.colours[: case.classes], (9, 9, 99), *[(0, 0, 0)] * 250]
    colours[IGNORED:] = [VOID]
    image.putpalette([c for each in colours for c in each])
    image.save(stem.with_suffix(f".{form}"), transparency=case.classes)


def transparent_garbage(mode):
    """The background is transparent, and of any colour."""

    def write(case, labels, stem, form):
        case.said["transparent"] = "a"
        under = np.arange(labels.size, dtype=np.uint8).reshape(labels.shape) * 7
        alpha = np.where(labels == 0, 0, 255).astype(np.uint8)
        if mode == "LA":
            shown = np.where(labels == 0, under, labels)
        else:
            case.with_colours()
            shown = np.where((labels == 0)[..., None], under[..., None], case.rgb(labels))
        lossless(Image.fromarray(np.dstack([shown, alpha]).astype(np.uint8)), stem, form)

    return write


def transparent_level(bits):
    def write(case, labels, stem, form):
        if case.classes >= 2**bits or case.has_ignored():
            raise Unwritable
        case.said["transparent"] = "a"
        clear = 2**bits - 1
        few_bits(stem.with_suffix(".png"), np.where(labels == 0, clear, labels), bits, clear)

    return write


def listed_jpeg(case, labels, stem, form):
    """Black and white, in the order of the class list."""
    if case.classes > 2 or case.has_ignored():
        raise Unwritable
    white_first = case.order[0] % 2
    case.colours[:2] = [(255,) * 3, (0,) * 3] if white_first else [(0,) * 3, (255,) * 3]
    case.with_colours()
    levels = np.kron((labels ^ white_first) * 255, np.ones((8, 8), np.uint8))
    Image.fromarray(levels.astype(np.uint8)).save(stem.with_suffix(".jpg"), quality=95)


def one_per_class(case, labels, stem, form):
    if case.has_ignored():
        raise Unwritable
    case.pattern = "{id}_{class}." + form
    for label in range(1, case.classes):
        inside = ((labels == label) * 255).astype(np.uint8)
        path = stem.with_name(f"{stem.name}_{'abcdefg'[label]}")
        lossless(Image.fromarray(inside), path, form)


def one_per_instance(case, labels, stem, form):
    """Each row of the foreground is an instance."""
    if case.classes > 2 or case.has_ignored():
        raise Unwritable
    case.pattern = "{id}/*." + form
    stem.mkdir()
    for row in range(len(labels)):
        inside = np.zeros_like(labels)
        inside[row] = labels[row] * 255
        lossless(Image.fromarray(inside), stem / str(row), form)


def array_in_columns(case, labels, stem, form):
    np.save(stem.with_suffix(".npy"), np.asfortranarray(labels.astype(">i4")))


def array_of_truth(case, labels, stem, form):
    if case.classes > 2 or case.has_ignored():
        raise Unwritable
    np.save(stem.with_suffix(".npy"), labels > 0)


class Unwritable(Exception):
    """A label map has no such form."""


IMAGES = ("png", "bmp", "tif", "gif", "webp")
WRITERS = [
    *((ids_grey, form) for form in IMAGES),
    *((ids_in_three_channels, form) for form in ("png", "bmp", "tif", "webp")),
    *((ids_grey_opaque, form) for form in ("png", "tif")),
    *((ids_deep, form) for form in ("png", "tif")),
    *((ids_of_few_bits(bits), "png") for bits in (1, 2, 4)),
    *((ids_as_palette, form) for form in ("png", "bmp", "tif", "gif")),
    *((binary_grey, form) for form in IMAGES),
    *((binary_deep, form) for form in ("png", "tif")),
    *((binary_bits, form) for form in ("png", "bmp", "tif", "gif")),
    *((binary_converted, form) for form in ("png", "bmp", "tif", "gif")),
    *((binary_quantized, form) for form in ("png", "bmp", "tif", "gif")),
    (binary_jpeg, "jpg"),
    (white_is_zero, "tif"),
    *((palette, form) for form in ("png", "bmp", "tif", "gif")),
    *((coloured, form) for form in ("png", "bmp", "tif", "webp")),
    *((coloured_opaque, form) for form in ("png", "tif", "webp")),
    *((coloured_palette, form) for form in ("png", "bmp", "tif", "gif")),
    *((coloured_greys, form) for form in IMAGES),
    *((numbered, form) for form in IMAGES),
    *((array(dtype), "npy") for dtype in (np.uint8, np.int16, np.int64)),
    *((transparent_background, form) for form in ("png", "webp")),
    (ids_interlaced, "png"),
    *((ids_compressed(how), "tif") for how in ("tiff_lzw", "tiff_deflate", "packbits")),
    *((palette_of_few_bits(bits), "png") for bits in (1, 2, 4)),
    (transparent_index, "png"),
    *((transparent_garbage(mode), form) for mode in ("LA", "RGBA") for form in ("png", "tif")),
    *((transparent_level(bits), "png") for bits in (2, 4)),
    (listed_jpeg, "jpg"),
    *((one_per_class, form) for form in IMAGES),
    *((one_per_instance, form) for form in ("png", "bmp", "tif", "webp")),
    (array_in_columns, "npy"),
    (array_of_truth, "npy"),
]
NAMES = [f"{write.__name__} {write.__qualname__.split('.')[0]} {form}" for write, form in WRITERS]


NAMED = {
    **dict.fromkeys((ids_grey, ids_in_three_channels, ids_grey_opaque, ids_deep), "ids"),
    **dict.fromkeys((binary_grey, binary_deep, binary_bits, binary_converted), "binary"),
    palette: "palette",
    **dict.fromkeys((coloured, coloured_opaque, coloured_palette, coloured_greys), "colours"),
    **dict.fromkeys((array_in_columns, array_of_truth), "npy"),
    binary_quantized: "binary",
    ids_as_palette: "levels",
    ids_interlaced: "ids",
}
"""What `--encoding` would be named of some writers, whatever could be found out."""


@st.composite
def cases(draw):
    classes = draw(st.integers(2, 5))
    ignored = draw(st.booleans())
    values = [*range(classes), *([IGNORED] if ignored else [])]
    maps = st.lists(st.sampled_from(values), min_size=12, max_size=12)
    labels = [
        np.array(each, np.uint8).reshape(3, 4)
        for each in draw(st.lists(maps, min_size=1, max_size=4))
    ]
    if ignored and classes == 2 and not any((each == 1).any() for each in labels):
        labels[0][0, 0] = 1  # 0 and 255 alone are black and white, by definition.
    colours = draw(st.permutations(COLOURS))
    order = draw(st.permutations(range(7)))
    return Case(labels, classes, colours, list(order), first=draw(st.sampled_from([1, 64])))


def read_back(case, writers, folder):
    """Write the label maps, by turns if there are several writers, and return what is read."""
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    case.lines = list("abcdefg"[: case.classes])
    for i, labels in enumerate(case.labels):
        write, form = writers[i % len(writers)]
        write(case, labels, folder / f"masks/{i}", form)
        scale = 8 if form == "jpg" else 1
        height, width = labels.shape
        Image.new("RGB", (scale * width, scale * height)).save(folder / f"images/{i}.png")
    (folder / "classes.txt").write_text("\n".join(case.lines[: case.classes]))
    said = Said(folder / "classes.txt", **case.said)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(describing, "FIRST", case.first)
        patch.setattr(describing, "FEWEST", case.first)
        places = (folder / "images", folder / "masks" / case.pattern, said)
        found = look_at("mine", *places, every=False, unpack_beside=folder / "u")
    entries = found.info().find(folder).entries
    assert [entry.id for entry in entries] == [str(i) for i in range(len(case.labels))]
    return [read_pair(found.dataset, entry)[1] for entry in entries]


def assert_exact(case, found):
    for labels, read in zip(case.labels, found, strict=True):
        expected = labels if read.shape == labels.shape else np.kron(labels, np.ones((8, 8)))
        np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize(("write", "form"), WRITERS, ids=NAMES)
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(case=cases(), named=st.booleans())
def test_a_label_map_comes_back_exactly_or_is_refused(write, form, case, named):
    if (
        named and write in NAMED and form != "gif"
    ):  # Whose indices are not those that were written.
        case.said["encoding"] = NAMED[write]
    with suppress(Unwritable, DatasetError), tempfile.TemporaryDirectory() as folder:
        assert_exact(case, read_back(case, [(write, form)], Path(folder)))


OF_COLOURS = (
    coloured,
    coloured_opaque,
    coloured_palette,
    transparent_background,
    transparent_index,
)
TOGETHER = st.sampled_from(
    [
        [each for each in WRITERS if each[0] in OF_COLOURS],
        [
            each
            for each in WRITERS
            if each[0] not in (*OF_COLOURS, coloured_greys, numbered, listed_jpeg)
            and not each[0].__qualname__.startswith(("one_per", "transparent_garbage"))
        ],
    ]
)
"""Writers of which a class list suits all."""


@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    case=cases(),
    writers=TOGETHER.flatmap(lambda all: st.lists(st.sampled_from(all), min_size=2, max_size=4)),
)
def test_a_dataset_of_masks_in_several_forms_comes_back_exactly_or_is_refused(writers, case):
    """Each file is right by itself; what one says about another must not change it."""
    with suppress(Unwritable, DatasetError), tempfile.TemporaryDirectory() as folder:
        found = read_back(case, writers, Path(folder))
        assert_exact(case, found)


WHOLE = [
    np.arange(12, dtype=np.uint8).reshape(3, 4) % 3,
    np.arange(12, dtype=np.uint8)[::-1].reshape(3, 4) % 3,
]
TWO = [(each > 0).astype(np.uint8) for each in WHOLE]
IN_TWO_WAYS = {
    "binary_quantized png",
    "binary_quantized bmp",
    "binary_quantized tif",
    "white_is_zero tif",
    "palette gif",
    "binary_quantized gif",
}
"""Writers whose files say too little; all others are read."""
OF_TWO = (
    *("binary", "white_is_zero", "ids_of_few_bits", "palette_of_few_bits"),
    *("transparent_level", "listed_jpeg", "one_per_instance", "array_of_truth"),
)
"""Writers of two classes, or of few bits."""


@pytest.mark.parametrize(("write", "form"), WRITERS, ids=NAMES)
def test_what_is_certain_is_read(write, form, tmp_path):
    name = f"{write.__name__} {form}"
    two = name.startswith(OF_TWO) or write.__qualname__.startswith(OF_TWO)
    case = Case(
        TWO if two else WHOLE,
        2 if two else 3,
        [COLOURS[0], *COLOURS[2:], COLOURS[1]],
        [2, 0, 1, 3, 4, 5, 6],
    )
    if write is coloured_greys:
        case.order = [1, 2, 0, 3, 4, 5, 6]
    if name in IN_TWO_WAYS:
        with pytest.raises(DatasetError, match="--encoding|colour in the class list"):
            read_back(case, [(write, form)], tmp_path)
        return
    for labels, read in zip(case.labels, read_back(case, [(write, form)], tmp_path), strict=True):
        np.testing.assert_array_equal(read[:: len(read) // 3, :: len(read) // 3], labels)


def _as_voc(count: int) -> list[tuple[int, ...]]:
    """Colours that differ in their upper bits only."""
    bits = [format(i, "08b") for i in range(count)]
    return [
        tuple(int(each[place] + each[place - 3], 2) << 6 for place in (7, 6, 5)) for each in bits
    ]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
@pytest.mark.parametrize("count", [2, 21, 30, 60, 200])
def test_colours_come_back_whatever_they_are_coded_by(
    tmp_path: Path, mode: str, count: int
) -> None:
    """Every colour is told from all others, in the whole map and in what a stored side takes of it."""
    draw = np.random.default_rng(count)
    known = list(dict.fromkeys(_as_voc(min(count, 64))))
    while len(known) < count:
        colour = tuple(draw.integers(0, 256, 3).tolist())
        known += [colour] if colour not in known else []
    channels = {"RGB": 3, "RGBA": 4, "LA": 2}[mode]
    if mode == "LA":
        known = [(i, 255) for i in range(count)]
    table = np.array([(*each, 255)[:channels] for each in known], np.uint8)
    if channels != 3:
        table[0, -1] = 0  # What is opaque everywhere is read without its opacity.
    truth_HW = draw.permutation(np.arange(40 * 50) % count).reshape(40, 50).astype(np.uint8)
    Image.fromarray(table[truth_HW]).save(tmp_path / "mask.png")
    mask = open_mask(tmp_path / "mask.png")
    by_cell = {
        (*(each[:3] if channels > 2 else each[:1] * 3), each[-1] if channels != 3 else 255): label
        for label, each in enumerate(table.tolist())
    }
    labels = mask.labels(lambda cell: by_cell[*(cell.colour or ()), cell.alpha])
    np.testing.assert_array_equal(labels.whole(), truth_HW)
    rows, columns = draw.integers(0, 40, 7), draw.integers(0, 50, 9)
    np.testing.assert_array_equal(labels.at(rows, columns), truth_HW[rows][:, columns])
