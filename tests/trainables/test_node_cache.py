"""What many runs read is copied once per machine, and held to what the runs were planned with."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from trainables.checkpoint import sha256_of
from trainables.data.errors import DatasetChangedError, DatasetError
from trainables.data.store import ArrowDataset
from trainables.node_cache import DamagedCopyError, NodeCache
from trainables.result import Artifact, Result
from trainables.storage import Storage


@pytest.fixture
def home(tiny, tmp_path):
    shutil.copytree(tiny.home, tmp_path / "home")
    return tmp_path / "home"


def cache(tmp_path, home):
    return NodeCache(tmp_path / "cache", Storage(str(home)))


def name_of(tiny):
    return f"datasets/{tiny.folder(tiny.source).name}"


def test_a_dataset_is_copied_once_and_read_from_the_copy(tiny, home, tmp_path):
    fingerprint = tiny.source.fingerprint
    folder = cache(tmp_path, home).dataset(name_of(tiny), fingerprint)
    shutil.rmtree(home)
    assert cache(tmp_path, home).dataset(name_of(tiny), fingerprint) == folder
    assert len(ArrowDataset.open(folder, fingerprint=fingerprint)) == 20


def test_workers_that_come_at_once_share_one_copy(tiny, home, tmp_path):
    class Counting(Storage):
        copied = 0

        def download(self, name, path):
            Counting.copied += 1
            super().download(name, path)

    def ask(_):
        shared = NodeCache(tmp_path / "cache", Counting(str(home)))
        return shared.dataset(name_of(tiny), tiny.source.fingerprint)

    with ThreadPoolExecutor(6) as pool:
        folders = set(pool.map(ask, range(6)))
    assert len(folders) == 1
    assert Counting.copied == 2  # The description and the images.


def test_a_dataset_that_is_another_is_refused_and_not_kept(tiny, home, tmp_path):
    file = home / name_of(tiny) / "data.arrow"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DatasetError):
        cache(tmp_path, home).dataset(name_of(tiny), tiny.source.fingerprint)
    with pytest.raises(DatasetChangedError, match="changed since the run was planned"):
        cache(tmp_path, home).dataset(f"datasets/{tiny.folder(tiny.target).name}", "0" * 64)
    assert [path for path in (tmp_path / "cache/datasets").iterdir() if path.is_dir()] == []


def test_a_dataset_that_is_not_there_is_named(home, tmp_path):
    with pytest.raises(DatasetError, match=r"no dataset `datasets/nothing` in .*home"):
        cache(tmp_path, home).dataset("datasets/nothing", "0" * 64)


def test_a_copy_that_was_cut_short_is_made_again(tiny, home, tmp_path):
    left = tmp_path / "cache/datasets" / f".{tiny.source.fingerprint}.partial"
    left.mkdir(parents=True)
    (left / "data.arrow").write_bytes(b"half")
    folder = cache(tmp_path, home).dataset(name_of(tiny), tiny.source.fingerprint)
    assert sorted(path.name for path in folder.iterdir()) == ["data.arrow", "dataset.json"]
    assert not left.exists()


def test_weights_are_held_to_their_digest(home, tmp_path):
    run = home / "artifacts/1/artifacts"
    run.mkdir(parents=True)
    weights = run / "weights.safetensors"
    weights.write_bytes(b"weights")
    artifacts = {weights.name: Artifact(sha256_of(weights), bytes=7)}
    Result("key", {}, updates=1, seconds=1.0, artifacts=artifacts).write(run)
    copies = cache(tmp_path, home)
    found = copies.pretrained("artifacts/1/artifacts", "key")
    assert (found / weights.name).read_bytes() == b"weights"
    file = copies.weights("artifacts/1/artifacts/weights.safetensors", sha256_of(weights))
    assert file.read_bytes() == b"weights"
    weights.write_bytes(b"weightz")
    with pytest.raises(DamagedCopyError):
        copies.pretrained("artifacts/1/artifacts", "other")
    with pytest.raises(DamagedCopyError):
        copies.weights("artifacts/1/artifacts/weights.safetensors", "0" * 64)
