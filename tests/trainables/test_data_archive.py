"""Archives are unpacked as the folders that they hold, and nothing outside their folder is written."""

import io
import shutil
import stat
import tarfile
import zipfile

import numpy as np
import pytest

from trainables.data.datasets import all_datasets
from trainables.data.errors import DatasetError
from trainables.data.files import archive as archive_module
from trainables.data.files.archive import unpack
from trainables.data.prepare import How, prepare

SHENZHEN = all_datasets()["shenzhen"]


def zipped(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), b"x" * 10)
    return path


def tarred(path, infos):
    mode = "w:gz" if path.name.endswith("gz") else "w"
    with tarfile.open(path, mode) as archive:
        for info in infos:
            info.size = 10 if info.isreg() else 0
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    return path


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


OUTSIDE = ["../evil.png", "/tmp/evil.png", "a/../../evil.png", "..\\evil.png", "C:\\evil.png"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_path_that_leads_outside_is_refused_before_anything_is_written(tmp_path, name, kind):
    if kind == "zip":
        archive = zipped(tmp_path / "a.zip", ["good.png", name])
    else:
        archive = tarred(tmp_path / "a.tar", [tarfile.TarInfo("good.png"), tarfile.TarInfo(name)])
    with pytest.raises(DatasetError, match="would be written outside its folder"):
        unpack(archive, tmp_path / "into")
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    "info",
    [
        link("masks", "/etc"),
        link("hard.png", "/etc/passwd", tarfile.LNKTYPE),
        link("device", "", tarfile.CHRTYPE),
    ],
    ids=["symlink", "hard link", "device"],
)
def test_links_and_devices_are_refused(tmp_path, info):
    archive = tarred(tmp_path / "a.tar.gz", [tarfile.TarInfo("good.png"), info])
    with pytest.raises(DatasetError, match="holds a link or device"):
        unpack(archive, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_links_in_a_zip_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    info = zipfile.ZipInfo("masks")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc")
    with pytest.raises(DatasetError, match="holds a link, `masks`"):
        unpack(path, tmp_path / "into")


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_damaged_archives_are_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(DatasetError, match=rf"{name}: not a readable archive"):
        unpack(path, tmp_path / "into")


def test_a_flipped_bit_in_a_zip_is_noticed(tmp_path):
    path = zipped(tmp_path / "a.zip", ["good.png"])
    content = bytearray(path.read_bytes())
    content[content.index(b"xxxxxxxxxx")] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="not a readable archive: Bad CRC"):
        unpack(path, tmp_path / "into")


def noise_tar(path, mode="w"):
    """A tar of three files that do not compress, so that each has its place in the file."""
    draw = np.random.default_rng(0)
    with tarfile.open(path, mode) as archive:
        for name in ("a.png", "b.png", "c.png"):
            info = tarfile.TarInfo(name)
            info.size = 40_000
            archive.addfile(info, io.BytesIO(draw.bytes(info.size)))
    return path


@pytest.mark.parametrize("ending", ["gz", "xz", "bz2"])
def test_a_compressed_tar_that_lost_its_end_is_refused(tmp_path, ending):
    path = noise_tar(tmp_path / f"a.tar.{ending}", f"w:{ending}")
    content = path.read_bytes()
    for lost in (4, 8, 100, 50_000):
        path.write_bytes(content[:-lost])
        with pytest.raises(
            DatasetError, match=rf"a\.tar\.{ending}: not a readable archive"
        ) as caught:
            unpack(path, tmp_path / "into")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["gz", "xz", "bz2"])
def test_a_compressed_tar_with_a_flipped_bit_is_refused(tmp_path, ending):
    path = noise_tar(tmp_path / f"a.tar.{ending}", f"w:{ending}")
    content = bytearray(path.read_bytes())
    for place in (30_000, len(content) - 6):
        content[place] ^= 4
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=rf"a\.tar\.{ending}: not a readable archive"):
            unpack(path, tmp_path / "into")
        content[place] ^= 4


@pytest.mark.parametrize(
    "spoil",
    [
        # Each file takes 512 bytes for its header and 40,448 = 79 * 512: c.png begins at 81,920.
        lambda content: content[:81_930] + b"?" + content[81_931:],
        lambda content: content[: 2 * 40_960],  # Ends where c.png would begin: no mark of the end.
        lambda content: content[: 2 * 40_960 + 100],
        lambda content: content[:40_960] + bytes(512) + content[41_472:],
    ],
    ids=["name", "at a header", "in a header", "zeros"],
)
def test_a_tar_with_a_damaged_header_is_not_half_a_release(tmp_path, spoil):
    path = noise_tar(tmp_path / "a.tar")
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DatasetError, match=r"a\.tar: not a readable archive"):
        unpack(path, tmp_path / "into")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.tar.bz2"])
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty, no archive"), (b"<html>not found</html>\n" * 9, "neither zip nor tar")],
)
def test_an_empty_file_or_a_text_is_named_in_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"{name}: .*{message}") as caught:
        unpack(path, tmp_path / "into")
    assert "\n" not in str(caught.value)


def test_a_name_that_is_file_and_folder_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"a\.zip: `x` is both a file and a folder"):
        unpack(zipped(tmp_path / "a.zip", ["x", "x/y.png"]), tmp_path / "into")
    infos = [tarfile.TarInfo("x/y.png"), tarfile.TarInfo("x/y.png/z.png")]
    with pytest.raises(DatasetError, match=r"a\.tar: `x/y\.png` is both a file and a folder"):
        unpack(tarred(tmp_path / "a.tar", infos), tmp_path / "into")
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize("name", ["ä" * 130 + ".png", "/".join(["folder" * 20] * 40)])
def test_a_name_that_is_too_long_is_refused(tmp_path, name):
    with pytest.raises(DatasetError, match=r"a\.zip: `.{60}\.\.\.` is too long a name"):
        unpack(zipped(tmp_path / "a.zip", ["good.png", name]), tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_a_zip_that_needs_a_password_or_an_unknown_compression_is_named(tmp_path):
    path = zipped(tmp_path / "a.zip", ["good.png"])
    content = path.read_bytes()
    for offset, value in ((6, 1), (8, 97)):  # Of the local header; 2 more in the central one.
        spoilt = bytearray(content)
        central = content.index(b"PK\x01\x02")
        spoilt[offset] = spoilt[central + offset + 2] = value
        path.write_bytes(spoilt)
        with pytest.raises(DatasetError, match=r"a\.zip: not a readable archive"):
            unpack(path, tmp_path / "into")


def test_files_are_as_old_as_the_archive_says(tmp_path):
    info = tarfile.TarInfo("a.png")
    info.mtime = 1_234_567_890
    zip_info = zipfile.ZipInfo("b.png", (2018, 5, 6, 7, 8, 10))
    unpack(tarred(tmp_path / "a.tar", [info]), tmp_path / "into")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr(zip_info, b"x")
    unpack(tmp_path / "b.zip", tmp_path / "into")
    assert (tmp_path / "into/a.png").stat().st_mtime == 1_234_567_890
    # 2018-05-06 07:08:10 UTC.
    assert (tmp_path / "into/b.png").stat().st_mtime == 1_525_590_490


def test_what_is_larger_than_the_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive_module, "LEAST_LEFT", 2**60)  # No disk has so much to leave.
    with pytest.raises(DatasetError, match=r"unpacks to 0.0 GB, .* GB are free at"):
        unpack(zipped(tmp_path / "a.zip", ["good.png"]), tmp_path / "into")
    assert not list(tmp_path.rglob("*.png"))


def test_a_release_in_two_archives_is_the_release(tmp_path, real_data):
    xrays = real_data / "shenzhen/ChinaSet_AllFiles"
    masks = real_data / "shenzhen/mask"
    some = sorted((masks / "mask").iterdir())[:6]
    with zipfile.ZipFile(tmp_path / "ChinaSet_AllFiles.zip", "w") as archive:
        for mask in some:
            name = mask.name.replace("_mask", "")
            archive.write(xrays / "CXR_png" / name, f"ChinaSet_AllFiles/CXR_png/{name}")
            archive.writestr(f"__MACOSX/ChinaSet_AllFiles/CXR_png/._{name}", b"shadow")
    with tarfile.open(tmp_path / "mask.tar.gz", "w:gz") as archive:
        for mask in some:
            archive.add(mask, f"mask/mask/{mask.name}")
    sources = [tmp_path / "ChinaSet_AllFiles.zip", tmp_path / "mask.tar.gz"]
    home = tmp_path / "home"
    found = prepare(SHENZHEN, sources, home, image_size=32, how=How(strict=False))
    assert found.images == 6
    # An archive and a folder go together too; and nothing that was unpacked stays.
    sources[1] = tmp_path / "masks"
    sources[1].mkdir()
    for mask in some:
        shutil.copy(mask, sources[1])
    other = prepare(SHENZHEN, sources, tmp_path / "o", image_size=32, how=How(strict=False))
    assert other.fingerprint == found.fingerprint
    assert [p.name for p in (home / "datasets").iterdir()] == ["shenzhen-56"]
