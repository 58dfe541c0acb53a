"""Archives are unpacked as the folders that they hold, and nothing outside their folder is written."""

import io
import shutil
import stat
import tarfile
import zipfile

import pytest

from trainables.data import archive as archive_module
from trainables.data.archive import unpack
from trainables.data.datasets import all_datasets
from trainables.data.errors import DatasetError
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
    assert sorted(p.name for p in (home / "datasets").iterdir()) == [
        ".shenzhen-36.lock",
        "shenzhen-36",
    ]
