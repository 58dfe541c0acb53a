"""Files that are not what they should be: all are named at once, and nothing half-done is usable."""

import struct
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image

from trainables.data import prepare as prepare_module
from trainables.data.datasets import all_datasets
from trainables.data.errors import BadImageError, BadReleaseError, DatasetError
from trainables.data.files import reading as reading_module
from trainables.data.files.arrays import read_npy_labels
from trainables.data.files.images import read_colour, read_grey
from trainables.data.prepare import How, prepare
from trainables.data.prepared import find_prepared

PH2 = all_datasets()["ph2"]
SIDE = 16


def add(root, name, *, image=None):
    """Add one image of PH2 with its mask; return the path of the image."""
    path = root / f"{name}/{name}_Dermoscopic_Image/{name}.bmp"
    lesion = root / f"{name}/{name}_lesion/{name}_lesion.bmp"
    for each in (path, lesion):
        each.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(int(name[3:]))
    (image or Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8))).save(path)
    levels = np.zeros((20, 30), np.uint8)
    levels[5:15, 5:15] = 255
    Image.fromarray(levels).save(lesion)
    return path


def prepared(root, home, **how):
    return prepare(PH2, root, home, image_size=SIDE, how=How(strict=False, **how))


@pytest.fixture
def root(tmp_path):
    for i in range(10):
        add(tmp_path / "PH2 Dataset images", f"IMD{i:03}")
    return tmp_path / "PH2 Dataset images"


@pytest.fixture
def bad(root):
    """Four bad files of six kinds, and one mask without its image."""
    paths = [root / f"IMD00{i}/IMD00{i}_Dermoscopic_Image/IMD00{i}.bmp" for i in range(5)]
    paths[0].write_bytes(paths[0].read_bytes()[:400])
    paths[1].write_bytes(b"")
    paths[2].write_text("this is no image")
    (root / "IMD003/IMD003_lesion/IMD003_lesion.bmp").write_bytes(b"BM")
    paths[4].unlink()
    return root


def test_every_problem_is_listed_in_one_go(bad, tmp_path):
    with pytest.raises(BadReleaseError) as caught:
        prepared(bad, tmp_path / "home", workers=2)
    assert len(caught.value.problems) == 5
    for name in (
        "IMD000.bmp",
        "IMD001.bmp",
        "IMD002.bmp",
        "IMD003_lesion.bmp",
        "IMD004_lesion.bmp",
    ):
        assert any(name in problem for problem in caught.value.problems)
    assert find_prepared(tmp_path / "home", PH2, SIDE) is None


def test_bad_files_can_be_skipped_and_are_recorded(bad, tmp_path):
    found = prepared(bad, tmp_path / "home", skip_bad=True)
    assert found.images == 5
    assert len(found.skipped) == 5
    assert any("IMD004_lesion.bmp: has no image" in problem for problem in found.skipped)
    # Again without the flag: what was left out is not forgotten, and the files are still bad.
    with pytest.raises(BadReleaseError):
        prepare(PH2, bad, tmp_path / "home", image_size=SIDE)


def test_a_mended_file_costs_only_its_part(root, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "PART", 2)
    path = root / "IMD009/IMD009_Dermoscopic_Image/IMD009.bmp"
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    with pytest.raises(BadReleaseError):
        prepared(root, tmp_path / "home")
    kept = sorted(p.name for p in (tmp_path / "home/datasets/.ph2-16.parts").iterdir())
    assert len(kept) == 4
    path.write_bytes(whole)
    read = []
    original = reading_module.read_sample
    monkeypatch.setattr(
        reading_module,
        "read_sample",
        lambda r, entry, s, **how: read.append(entry.id) or original(r, entry, s, **how),
    )
    resumed = prepared(root, tmp_path / "home")
    assert read == ["IMD008", "IMD009"]
    assert resumed == prepared(root, tmp_path / "other")
    assert not (tmp_path / "home/datasets/.ph2-16.parts").exists()


def test_a_part_that_was_torn_is_read_again(root, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "PART", 5)
    path = root / "IMD009/IMD009_Dermoscopic_Image/IMD009.bmp"
    whole = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(BadReleaseError):
        prepared(root, tmp_path / "home")
    (part,) = (tmp_path / "home/datasets/.ph2-16.parts").iterdir()
    part.write_bytes(part.read_bytes()[:-100])
    path.write_bytes(whole)
    assert prepared(root, tmp_path / "home") == prepared(root, tmp_path / "other")


def test_a_changed_pixel_is_another_fingerprint(root, tmp_path):
    first = prepared(root, tmp_path / "home")
    again = prepared(root, tmp_path / "again")
    path = root / "IMD005/IMD005_Dermoscopic_Image/IMD005.bmp"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[8:10, 8:10] = 255 - pixels[8:10, 8:10]
    Image.fromarray(pixels).save(path)
    changed = prepared(root, tmp_path / "changed")
    assert first.fingerprint == again.fingerprint != changed.fingerprint


def test_a_full_disk_is_named_and_leaves_nothing_usable(root, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        with pytest.raises(DatasetError, match="no space left"):
            prepare(PH2, root, small, image_size=64, how=How(strict=False))
        assert find_prepared(small, PH2, 64) is None
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_names_with_spaces_and_other_alphabets_are_files_like_any_other(root, tmp_path):
    renamed = root.with_name("Läsionen aus Óbidos 皮膚")
    root.rename(renamed)
    assert prepared(renamed, tmp_path / "home").images == 10


def test_sixteen_bit_grey_becomes_eight_bit_colour_by_the_level_that_is_white(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 2048, 4095]], np.uint16)).save(path)
    # 2048 * 255 / 4095 = 127.5.
    np.testing.assert_array_equal(read_colour(path, white=4095)[0, :, 0], [0, 128, 255])
    assert read_grey(path).max() == 4095
    with pytest.raises(BadImageError, match=r"deep\.png: grey levels of 16 bits, up to 4095"):
        read_colour(path)
    with pytest.raises(BadImageError, match=r"deep\.png: a grey level of 4095, but white is 1023"):
        read_colour(path, white=1023)


def test_sixteen_bit_colour_is_refused_rather_than_cut_to_its_upper_half(tmp_path):
    # Pillow writes none: 1 x 1 pixel of three times 0x0FFF, by the PNG specification.
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    path = tmp_path / "deep.png"
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + b"\x0f\xff" * 3)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )
    assert Image.open(path).mode == "RGB"
    for read in (read_colour, read_grey):
        with pytest.raises(BadImageError, match=r"deep\.png: colours of 16 bits are not read"):
            read(path)


@pytest.mark.parametrize("mode", ["CMYK", "L", "RGB"])
def test_other_colour_models_become_rgb(tmp_path, mode):
    path = tmp_path / "image.jpg"
    Image.new("RGB", (16, 16), (200, 200, 200)).convert(mode).save(path, quality=100)
    colour = read_colour(path)
    assert colour.shape == (16, 16, 3)
    np.testing.assert_allclose(colour, 200, atol=3)


def test_opaque_rgba_is_rgb_and_transparency_is_refused(tmp_path):
    opaque, glass = tmp_path / "opaque.png", tmp_path / "glass.png"
    Image.new("RGBA", (4, 4), (1, 2, 3, 255)).save(opaque)
    Image.new("RGBA", (4, 4), (1, 2, 3, 128)).save(glass)
    np.testing.assert_array_equal(read_colour(opaque)[0, 0], [1, 2, 3])
    with pytest.raises(BadImageError, match=r"glass\.png: has transparent pixels"):
        read_colour(glass)


def test_exif_orientation_is_applied_as_viewers_do(tmp_path):
    path = tmp_path / "turned.jpg"
    image = Image.new("RGB", (32, 16), "black")
    image.paste("white", (0, 0, 16, 16))  # The left half is white,
    exif = Image.Exif()
    exif[0x0112] = 6  # which is the upper half after a quarter turn clockwise.
    image.save(path, exif=exif, quality=100)
    upright = read_colour(path)
    assert upright.shape == (32, 16, 3)
    assert upright[:12].mean() > 240
    assert upright[20:].mean() < 15


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((2, 2, 2), np.uint8), "a label map has two dimensions"),
        (np.zeros((2, 2)), "a label map has integers"),
        (np.full((2, 2), 300), "labels 300 to 300, above 255"),
        (np.full((2, 2), -1), "labels -1 to -1"),
        (np.array([[{}]]), "not a readable array"),  # A pickle, which could run anything.
    ],
)
def test_label_maps_that_are_none_are_named(tmp_path, content, message):
    path = tmp_path / "labels.npy"
    np.save(path, content, allow_pickle=True)
    with pytest.raises(BadImageError, match=rf"labels\.npy: .*{message}"):
        read_npy_labels(path)
