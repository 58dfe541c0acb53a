"""Preparing: once, whole or not at all, the same from any number of processes."""

import numpy as np
import pytest
from PIL import Image

from trainables.data.datasets import all_datasets
from trainables.data.errors import BadReleaseError, DatasetCountError, DatasetError
from trainables.data.prepare import How, prepare
from trainables.data.prepared import find_prepared, folder_of
from trainables.data.store import ArrowDataset

DATA = all_datasets()


@pytest.fixture
def release(tmp_path):
    """A Shenzhen of 12 small X-rays with square lungs."""
    draw = np.random.default_rng(0)
    for i in range(12):
        name = f"CHNCXR_{i:04}_0"
        lungs = np.zeros((60, 50), np.uint8)
        lungs[20:40, 10 + i : 30 + i] = 255
        images, masks = tmp_path / "CXR_png", tmp_path / "mask"
        images.mkdir(exist_ok=True)
        masks.mkdir(exist_ok=True)
        levels = draw.integers(0, 4000, (60, 50)).astype(np.uint16)
        Image.fromarray(levels).save(images / f"{name}.png")
        Image.fromarray(lungs).save(masks / f"{name}_mask.png")
    return tmp_path


def prepare_shenzhen(release, home, **options):
    return prepare(
        DATA["shenzhen"], release, home, image_size=16, how=How(strict=False, **options)
    )


def test_a_source_that_is_cropped_is_stored_with_a_margin(release, tmp_path):
    prepared = prepare_shenzhen(release, tmp_path / "home")
    assert (prepared.stored_side, prepared.images) == (18, 12)
    assert (tmp_path / "home/datasets/shenzhen-18/data.arrow").exists()
    assert find_prepared(tmp_path / "home", DATA["shenzhen"], 16) == prepared


def test_pixels_are_grey_in_three_channels_and_labels_are_lungs(release, tmp_path):
    prepared = prepare_shenzhen(release, tmp_path / "home")
    folder = folder_of(tmp_path / "home", DATA["shenzhen"], 16)
    data = ArrowDataset.open(folder, fingerprint=prepared.fingerprint)
    images, labels = data.images(range(12)), data.labels(range(12))
    assert (images == images[..., :1]).all()
    # 20 x 20 of 60 x 50 pixels.
    assert labels.mean() == pytest.approx(400 / 3000, abs=0.02)


def test_any_number_of_processes_gives_the_same(release, tmp_path):
    seen = []
    alone = prepare_shenzhen(release, tmp_path / "a")
    shared = prepare_shenzhen(
        release, tmp_path / "b", workers=2, on_progress=lambda *counts: seen.append(counts)
    )
    assert alone == shared
    assert seen == [(i, 12) for i in range(1, 13)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_file_is_named_and_nothing_is_left(release, tmp_path, workers):
    path = release / "CXR_png" / "CHNCXR_0007_0.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BadReleaseError, match=r"1 file cannot.*\n.*CHNCXR_0007_0\.png"):
        prepare_shenzhen(release, tmp_path / "home", workers=workers)
    assert find_prepared(tmp_path / "home", DATA["shenzhen"], 16) is None
    left = {path.suffix for path in (tmp_path / "home/datasets").iterdir()}
    assert left == {".lock", ".parts"}


def test_what_is_prepared_is_not_prepared_again(release, tmp_path):
    first = prepare_shenzhen(release, tmp_path / "home")
    (release / "CXR_png" / "CHNCXR_0007_0.png").unlink()
    assert prepare_shenzhen(release, tmp_path / "home") == first


def test_a_release_of_another_size_is_refused_unless_told(release, tmp_path):
    with pytest.raises(DatasetCountError, match="566 labelled images, 12 are here"):
        prepare(DATA["shenzhen"], release, tmp_path / "home", image_size=16)


def test_a_part_prepared_leniently_does_not_pass_for_the_whole(release, tmp_path):
    prepare_shenzhen(release, tmp_path / "home")
    with pytest.raises(DatasetCountError):
        prepare(DATA["shenzhen"], release, tmp_path / "home", image_size=16)


@pytest.mark.parametrize(
    ("name", "source", "images", "message"),
    [
        ("shenzhen", "nowhere", None, "nowhere: no such folder or archive"),
        ("shenzhen", None, None, "name the folder of the release, from https://"),
        ("ph2-like", None, 0, "cannot make 0 images"),
        ("shenzhen", ".", 10, "cannot make 10 images"),
    ],
)
def test_what_cannot_be_prepared_says_why(tmp_path, name, source, images, message):
    with pytest.raises(DatasetError, match=message):
        prepare(DATA[name], source and tmp_path / source, tmp_path, image_size=16, images=images)


def test_another_number_of_generated_images_replaces_the_first(tmp_path):
    few, more, again = (
        prepare(DATA["ph2-like"], None, tmp_path, image_size=16, images=images)
        for images in (3, 5, 5)
    )
    assert (few.images, more.images) == (3, 5)
    assert more == again == find_prepared(tmp_path, DATA["ph2-like"], 16)


def test_generated_data_is_marked_as_such(tmp_path):
    prepared = prepare(DATA["ph2-like"], None, tmp_path, image_size=16, images=3)
    assert prepared.generated
    assert prepared.terms.startswith("drawn by a program")


def test_a_side_on_which_nothing_can_be_drawn_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 16 pixels, got 8"):
        prepare(DATA["ph2-like"], None, tmp_path, image_size=8, images=3)
