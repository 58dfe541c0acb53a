"""The Arrow store: what is read is what was written, mapped and not copied, known by content."""

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from trainables.data.datasets import all_datasets
from trainables.data.errors import DatasetChangedError, DatasetError
from trainables.data.info import Sample
from trainables.data.prepared import find_prepared, folder_of, read_prepared
from trainables.data.store import ArrowDataset, content_fingerprint, verify, write_dataset

SIDE = 8
INFO = all_datasets()["ph2-like"]


def samples_of(count, seed=0):
    draw = np.random.default_rng(seed)
    return [
        Sample(
            id=f"{i:04}",
            image_HWC=draw.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8),
            labels_HW=draw.integers(0, 2, (SIDE, SIDE)).astype(np.uint8),
            split="train" if i < 2 else "test",
        )
        for i in range(count)
    ]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "datasets" / "ph2-like-8"


@pytest.fixture
def written(folder):
    """Write 300 samples: three record batches."""
    samples = samples_of(300)
    return samples, write_dataset(folder, INFO, iter(samples), SIDE)


def test_what_is_read_is_what_was_written(folder, written):
    samples, prepared = written
    data = ArrowDataset.open(folder, fingerprint=prepared.fingerprint)
    wanted = [299, 0, 127, 128, 0]
    np.testing.assert_array_equal(data.images(wanted), [samples[i].image_HWC for i in wanted])
    np.testing.assert_array_equal(data.labels(wanted), [samples[i].labels_HW for i in wanted])
    assert (data.ids[2], data.official_split[:3]) == ("0002", ("train", "train", "test"))
    assert len(data) == prepared.images == 300


def test_any_arrow_reader_understands_the_file(folder, written):
    samples, _ = written
    table = pa.ipc.open_file(folder / "data.arrow").read_all()
    image = table["image"].chunk(0).to_numpy_ndarray()[5]
    np.testing.assert_array_equal(image, samples[5].image_HWC)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="maps are listed on Linux only")
def test_pixels_lie_in_the_memory_map_and_are_not_copied(folder, written):
    allocated = pa.total_allocated_bytes()
    data = ArrowDataset.open(folder, fingerprint=written[1].fingerprint)
    chunks = data._images_NSSC + data._labels_NSS
    pixels = sum(chunk.nbytes for chunk in chunks)
    assert pixels == 300 * SIDE * SIDE * 4
    assert pa.total_allocated_bytes() - allocated < pixels / 10
    maps = [
        [int(bound, 16) for bound in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith("data.arrow")
    ]
    for chunk in chunks:
        start = chunk.__array_interface__["data"][0]
        assert any(low <= start and start + chunk.nbytes <= high for low, high in maps)


def test_a_batch_is_a_copy_that_may_be_changed(folder, written):
    data = ArrowDataset.open(folder, fingerprint=written[1].fingerprint)
    before = data.images([0])
    data.images([0])[:] = 0
    np.testing.assert_array_equal(data.images([0]), before)


@pytest.mark.parametrize("index", [-1, 300])
def test_an_index_outside_is_an_error(folder, written, index):
    data = ArrowDataset.open(folder, fingerprint=written[1].fingerprint)
    with pytest.raises(IndexError):
        data.images([0, index])


def test_two_writings_have_one_fingerprint(tmp_path):
    one, other = (write_dataset(tmp_path / name, INFO, iter(samples_of(5)), SIDE) for name in "ab")
    assert one == other
    assert len(one.fingerprint) == 64


def changed(**fields):
    samples = samples_of(5)
    samples[3] = replace(samples[3], **fields)
    return samples


def flipped(array):
    array = array.copy()
    array.flat[7] ^= 1
    return array


@pytest.mark.parametrize(
    "content",
    [
        (INFO.classes, changed(image_HWC=flipped(samples_of(5)[3].image_HWC))),
        (INFO.classes, changed(labels_HW=flipped(samples_of(5)[3].labels_HW))),
        (INFO.classes, changed(id="0003b")),
        (INFO.classes, changed(split="train")),
        (INFO.classes, samples_of(4)),
        (("background", "mole"), samples_of(5)),
    ],
    ids=["a pixel", "a label", "an id", "the official split", "the number", "a class name"],
)
def test_the_fingerprint_covers(content):
    classes, samples = content
    expected = content_fingerprint(INFO.classes, SIDE, samples_of(5))
    assert content_fingerprint(classes, SIDE, samples) != expected


def test_the_fingerprint_is_of_content_and_not_of_its_layout_in_memory():
    samples = [
        replace(sample, image_HWC=np.asfortranarray(sample.image_HWC)) for sample in samples_of(5)
    ]
    expected = content_fingerprint(INFO.classes, SIDE, samples_of(5))
    assert content_fingerprint(INFO.classes, SIDE, samples) == expected


@pytest.mark.usefixtures("written")
def test_another_dataset_than_planned_is_refused(folder):
    with pytest.raises(DatasetChangedError, match="changed since the run was planned"):
        ArrowDataset.open(folder, fingerprint="0" * 64)


def test_a_missing_dataset_is_refused(tmp_path):
    with pytest.raises(DatasetChangedError, match="no prepared dataset"):
        ArrowDataset.open(tmp_path, fingerprint="0" * 64)


def test_a_torn_file_is_refused(folder, written):
    path = folder / "data.arrow"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetChangedError, match="bytes instead of"):
        ArrowDataset.open(folder, fingerprint=written[1].fingerprint)


def test_a_file_of_zeros_is_refused(folder, written):
    path = folder / "data.arrow"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(DatasetChangedError, match="not readable"):
        ArrowDataset.open(folder, fingerprint=written[1].fingerprint)


def change_one_pixel(folder, sample):
    path = folder / "data.arrow"
    content = bytearray(path.read_bytes())
    content[content.index(sample.image_HWC.tobytes())] ^= 1
    path.write_bytes(content)


def test_a_changed_pixel_is_found_by_verifying(folder, written):
    samples, prepared = written
    assert verify(folder) == prepared.fingerprint
    change_one_pixel(folder, samples[17])
    with pytest.raises(DatasetChangedError, match="content changed since it was prepared"):
        verify(folder)


def test_what_was_verified_is_not_read_again(folder, written):
    samples, prepared = written
    verify(folder)
    status = (folder / "data.arrow").stat()
    change_one_pixel(folder, samples[0])
    os.utime(folder / "data.arrow", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert verify(folder) == prepared.fingerprint  # the price of not hashing 8 GB per sweep
    (folder / "verified.json").unlink()
    with pytest.raises(DatasetChangedError):
        verify(folder)


def test_a_damaged_note_of_verifying_is_ignored(folder, written):
    (folder / "verified.json").write_text("{torn")
    assert verify(folder) == written[1].fingerprint


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (list(reversed(samples_of(2))), "ids must ascend"),
        (samples_of(1) * 2, "ids must ascend"),
        (changed(labels_HW=np.full((SIDE, SIDE), 2, np.uint8)), "`0003`: label 2"),
        (changed(image_HWC=np.zeros((4, 4, 3), np.uint8)), "`0003`: image and labels must have"),
        ([], "no images"),
    ],
)
def test_a_wrong_sample_leaves_nothing_behind(folder, samples, message):
    with pytest.raises(DatasetError, match=message):
        write_dataset(folder, INFO, iter(samples), SIDE)
    assert list(folder.parent.iterdir()) == []


def test_ignored_pixels_may_be_stored(folder):
    write_dataset(folder, INFO, changed(labels_HW=np.full((SIDE, SIDE), 255, np.uint8)), SIDE)
    assert read_prepared(folder).images == 5


def test_writing_again_leaves_an_open_dataset_as_it_was(folder, written):
    samples, prepared = written
    data = ArrowDataset.open(folder, fingerprint=prepared.fingerprint)
    write_dataset(folder, INFO, iter(samples_of(3, seed=1)), SIDE)
    np.testing.assert_array_equal(data.images([200])[0], samples[200].image_HWC)
    assert read_prepared(folder).images == 3


def test_files_are_the_owners_only_whatever_the_umask(folder):
    before = os.umask(0)
    try:
        write_dataset(folder, INFO, iter(samples_of(3)), SIDE)
        verify(folder)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == dict.fromkeys(
        ["contents.json", "data.arrow", "dataset.json", "verified.json"], 0o600
    )
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.usefixtures("written")
def test_the_description_says_what_the_images_are(folder):
    description = json.loads((folder / "dataset.json").read_text())
    assert description["generated"] is True
    assert description["title"] == "PH2-like"
    assert description["classes"] == ["background", "lesion"]


def test_only_a_dataset_of_this_version_is_found(tmp_path):
    folder = tmp_path / "datasets" / "ph2-like-8"
    assert find_prepared(tmp_path, INFO, SIDE) is None
    prepared = write_dataset(folder, INFO, iter(samples_of(3)), SIDE)
    assert find_prepared(tmp_path, INFO, SIDE) == prepared
    write_dataset(folder, replace(INFO, version=INFO.version + 1), iter(samples_of(3)), SIDE)
    assert find_prepared(tmp_path, INFO, SIDE) is None


@pytest.mark.usefixtures("written")
def test_a_torn_description_is_no_dataset(tmp_path, folder):
    path = folder / "dataset.json"
    path.write_text(path.read_text()[:40])
    assert find_prepared(tmp_path, INFO, SIDE) is None


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: os.truncate(path, 90)])
def test_without_its_images_it_is_no_dataset(tmp_path, folder, spoil):
    assert find_prepared(tmp_path, INFO, SIDE) is not None
    spoil(folder / "data.arrow")
    assert find_prepared(tmp_path, INFO, SIDE) is None


def test_the_description_says_what_was_done_to_images_and_how_many_pixels_classes_have(tmp_path):
    info = all_datasets()["shenzhen-like"]
    folder = folder_of(tmp_path, info, 16)
    prepared = write_dataset(folder, info, info.generate(3, 18), 18)
    labels = ArrowDataset.open(folder, fingerprint=prepared.fingerprint).labels(range(3))
    assert prepared.preprocessing == "equalised"
    assert prepared.pixels == ((labels == 0).sum(), (labels == 1).sum())


def test_a_description_of_before_says_nothing_of_it_and_is_read_all_the_same(tmp_path):
    info = all_datasets()["shenzhen-like"]
    folder = folder_of(tmp_path, info, 16)
    write_dataset(folder, info, info.generate(3, 18), 18)
    told = json.loads((folder / "dataset.json").read_text())
    del told["preprocessing"], told["pixels"]
    (folder / "dataset.json").write_text(json.dumps(told))
    assert find_prepared(tmp_path, info, 16).preprocessing == "equalised"
    assert read_prepared(folder).pixels == ()
