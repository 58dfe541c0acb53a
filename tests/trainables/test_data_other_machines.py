"""What other systems make of the same files: separators, endings, marks, shadows, orientations."""

import io
import itertools
import os
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from trainables.data.datasets import all_datasets
from trainables.data.errors import BadImageError, DatasetError, DatasetLayoutError
from trainables.data.files.archive import unpack
from trainables.data.files.images import read_colour, read_mask, read_sample, require_one_turn
from trainables.data.info import Entry, Form
from trainables.data.own.class_list import read_classes
from trainables.user_text import UserTextError, read_user_text

SHENZHEN = all_datasets()["shenzhen"]
NAMES = {
    "ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png": b"image",
    "mask/mask/CHNCXR_0001_0_mask.png": b"mask",
}


def in_zip(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in names.items():
            info = zipfile.ZipInfo("x")
            info.filename = name  # As it is: the constructor would put it right.
            archive.writestr(info, content)
    return path


def in_tar(path, names):
    with tarfile.open(path, "w") as archive:
        for name, content in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(("pack", "ending"), [(in_zip, "zip"), (in_tar, "tar")])
def test_separators_of_windows_are_separators(tmp_path, pack, ending):
    written = {name.replace("/", "\\"): content for name, content in NAMES.items()}
    if ending == "zip":
        written["ChinaSet_AllFiles\\empty\\"] = b""
    archive = pack(tmp_path / f"set.{ending}", {**written, "__MACOSX\\mask\\._x.png": b"shadow"})
    unpack(archive, tmp_path / "out")
    found = SHENZHEN.find(tmp_path / "out")
    assert [entry.id for entry in found.entries] == ["CHNCXR_0001_0"]
    assert found.entries[0].image.read_bytes() == b"image"
    assert not list((tmp_path / "out").rglob("._*"))


def test_a_name_with_either_separator_is_not_written_twice(tmp_path):
    both = in_zip(tmp_path / "both.zip", {"a/b.png": b"1", "a\\b.png": b"2"})
    with pytest.raises(DatasetError, match=r"a/b\.png"):
        unpack(both, tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["..\\evil.png", "a\\..\\..\\evil.png", "C:\\evil.png", "\\evil.png"]
)
def test_separators_of_windows_lead_nowhere_outside(tmp_path, name):
    with pytest.raises(DatasetError, match="outside its folder"):
        unpack(in_zip(tmp_path / "evil.zip", {name: b"x"}), tmp_path / "out")


def put(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_what_other_systems_leave_beside_the_files_is_none_of_them(tmp_path):
    shadows = ("Thumbs.db", "desktop.ini", ".DS_Store", "._CHNCXR_0001_0.png")
    put(tmp_path, *NAMES, *(f"ChinaSet_AllFiles/CXR_png/{name}" for name in shadows))
    put(tmp_path, *(f"__MACOSX/{name}" for name in NAMES))
    found = SHENZHEN.find(tmp_path)
    assert (len(found.entries), found.problems) == (1, ())


def test_an_ending_in_capitals_is_the_ending(tmp_path):
    put(tmp_path, *(name.replace(".png", ".PNG") for name in NAMES))
    assert [entry.id for entry in SHENZHEN.find(tmp_path).entries] == ["CHNCXR_0001_0"]
    (tmp_path / next(iter(NAMES))).write_bytes(b"another")
    (problem,) = SHENZHEN.find(tmp_path).problems
    assert "CHNCXR_0001_0.png: is another file than" in problem


def test_what_is_there_instead_is_told(tmp_path):
    put(tmp_path, "download/parts.zip", "download/readme.txt")
    with pytest.raises(
        DatasetLayoutError, match=r"; it holds 2 files, such as `download/parts.zip`"
    ):
        SHENZHEN.find(tmp_path)


def test_a_name_that_is_no_utf8_is_refused(tmp_path):
    put(tmp_path, *NAMES)
    (tmp_path / "mask" / os.fsdecode(b"caf\xe9.png")).touch()
    with pytest.raises(DatasetLayoutError, match=r"caf\\udce9\.png: not a name in UTF-8"):
        SHENZHEN.find(tmp_path)


MARKED = {
    "utf-8": "a\né\n".encode(),
    "utf-8 with a mark": "a\né\n".encode("utf-8-sig"),
    "windows": "a\r\né\r\n".encode(),
    "old mac": "a\ré\r".encode(),
}


@pytest.mark.parametrize("content", MARKED.values(), ids=MARKED)
def test_class_lists_of_any_editor_are_read(tmp_path, content):
    (tmp_path / "classes.txt").write_bytes(content)
    assert read_classes(tmp_path / "classes.txt")[0] == ("a", "é")


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("utf-16", "UTF-16 text, must be UTF-8"),
        ("utf-32", "UTF-32 text, must be UTF-8"),
        ("latin-1", "not UTF-8 text, byte 0xe9 in line 2"),
    ],
)
def test_text_of_another_encoding_is_refused_by_its_name(tmp_path, encoding, words):
    file = tmp_path / "classes.txt"
    file.write_bytes("a\né\n".encode(encoding))
    with pytest.raises(DatasetError, match=words):
        read_classes(file)
    with pytest.raises(UserTextError, match=words):
        read_user_text(file)


def test_text_beyond_its_bound_is_not_read(tmp_path):
    (tmp_path / "long.txt").write_bytes(b"x" * 11)
    assert read_user_text(tmp_path / "long.txt", largest=11) == "x" * 11
    with pytest.raises(UserTextError, match="larger than the 10 bytes"):
        read_user_text(tmp_path / "long.txt", largest=10)


def read(entry):
    return read_colour(entry.image), read_mask(entry.masks[0]).astype(np.uint8)


def pair(folder, *, image, mask, image_turn=1, mask_turn=1, ending="jpg"):
    """Write an image and a mask of these widths and heights, with EXIF orientations."""
    entry = Entry(id="x", image=folder / f"x.{ending}", masks=(folder / "mask.png",))
    for path, size, turn in ((entry.image, image, image_turn), (entry.masks[0], mask, mask_turn)):
        exif = Image.Exif()
        exif[0x0112] = turn
        picture = Image.new("L", size)
        picture.paste(255, (0, 0, size[0] // 2, size[1] // 2))
        picture.save(path, **({} if turn == 1 else {"exif": exif}))
    return entry


def sample(entry):
    return read_sample(read, entry, Form(side=8, classes=2, cropped=False, labels_at="centre"))


@pytest.mark.parametrize("ending", ["jpg", "png"])
@pytest.mark.parametrize(("turn", "size"), [*itertools.product(range(2, 9), [(32, 32), (48, 32)])])
def test_a_turned_image_whose_mask_is_not_is_refused_unless_its_shape_tells(
    tmp_path, turn, size, ending
):
    entry = pair(tmp_path, image=size, mask=size, image_turn=turn, ending=ending)
    with pytest.raises(BadImageError, match=rf"x\.{ending}: turned by its EXIF orientation"):
        sample(entry)
    upright = size[::-1] if turn >= 5 else size
    entry = pair(tmp_path, image=size, mask=upright, image_turn=turn, ending=ending)
    if turn >= 5 and size[0] != size[1]:
        assert sample(entry).labels_HW.shape == (8, 8)
    else:
        with pytest.raises(BadImageError, match="is not so; save it as it is to be seen"):
            sample(entry)


@pytest.mark.parametrize("turn", range(1, 9))
def test_both_turned_likewise_are_one_picture(tmp_path, turn):
    entry = pair(tmp_path, image=(48, 32), mask=(48, 32), image_turn=turn, mask_turn=turn)
    both = sample(entry)
    assert ((both.image_HWC[..., 0] > 128) == (both.labels_HW == 1)).mean() > 0.9


def test_a_turned_mask_whose_image_is_not_is_refused(tmp_path):
    entry = pair(tmp_path, image=(32, 32), mask=(32, 32), mask_turn=6)
    with pytest.raises(BadImageError, match=r"mask\.png: turned by its EXIF orientation \(6\)"):
        sample(entry)


@pytest.mark.parametrize(("shape", "fits"), [((48, 32), True), ((32, 48), False)])
def test_an_array_of_labels_is_held_against_the_turned_image(tmp_path, shape, fits):
    entry = pair(tmp_path, image=(48, 32), mask=(1, 1), image_turn=6)
    entry = replace(entry, masks=(tmp_path / "x.npy",))
    np.save(entry.masks[0], np.zeros(shape, np.uint8))
    if fits:
        require_one_turn(entry)
    else:
        with pytest.raises(BadImageError, match=r"turned by its EXIF orientation \(6\)"):
            require_one_turn(entry)
