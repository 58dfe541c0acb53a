"""A folder on disk and one in an object store behave alike."""

import os

import pytest

from trainables import storage
from trainables.storage import Storage, cache_folder, is_remote


@pytest.fixture(params=["disk", "s3", "gs"])
def place(request, tmp_path):
    if request.param == "disk":
        return Storage(str(tmp_path / "home"))
    bucket = request.getfixturevalue({"s3": "bucket", "gs": "google_bucket"}[request.param])
    return Storage(bucket("some/home"))


def test_what_is_written_is_read(place):
    place.write("a/b.json", b"{}")
    place.write("a/b.json", b"[1]")
    assert place.read("a/b.json") == b"[1]"
    assert place.one("a/b.json").bytes == 3
    assert place.one("a/c.json") is None
    assert place.one("a") is None
    with pytest.raises(FileNotFoundError):
        place.read("a/c.json")


def test_a_large_file_comes_back_whole(place, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "PIECE_BYTES", 1000)  # Many pieces, the last one short.
    content = os.urandom(12_345)
    (tmp_path / "large").write_bytes(content)
    place.write("x", b"")  # There has to be a folder on a disk.
    place.upload(tmp_path / "large", "large")
    place.download("large", tmp_path / "deep" / "copy")
    assert (tmp_path / "deep" / "copy").read_bytes() == content
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["copy"]
    assert (tmp_path / "deep" / "copy").stat().st_mode & 0o077 == 0


def test_a_download_that_fails_leaves_nothing(place, tmp_path):
    with pytest.raises(FileNotFoundError):
        place.download("nothing", tmp_path / "deep" / "copy")
    assert list((tmp_path / "deep").iterdir()) == []


def test_folders_are_listed_moved_and_removed(place):
    for name in ("runs/1/a", "runs/1/deep/b", "runs/10/c", "other"):
        place.write(name, name.encode())
    assert set(place.all("runs/1")) == {"runs/1/a", "runs/1/deep/b"}
    assert set(place.all()) == {"runs/1/a", "runs/1/deep/b", "runs/10/c", "other"}
    assert place.all("nowhere") == {}
    place.copy("other", "runs/1/other")
    assert place.read("runs/1/other") == b"other"
    place.remove_below("runs/1")
    place.remove("not there")
    assert set(place.all()) == {"runs/10/c", "other"}


def test_the_last_file_of_a_folder_says_that_all_are_there(place, tmp_path):
    for name in ("a", "result.json", "z"):
        (tmp_path / name).write_text(name)
    uploaded = []
    place.upload = lambda _, name: uploaded.append(name)
    place.upload_folder(tmp_path, "run", last="result.json")
    assert uploaded[-1] == "run/result.json"
    assert set(uploaded) >= {"run/a", "run/z"}


def test_addresses_are_told_from_paths(monkeypatch, tmp_path):
    assert is_remote("s3://bucket/prefix")
    assert is_remote("gs://bucket")
    assert not any(map(is_remote, ("/home/me", "s3:/x", "~/s3://x", "file:///x", "s3://")))
    monkeypatch.setenv("HDSWEEP_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
