"""What verifying finds: shares of classes, copies of an image in other parts and datasets, damage."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from trainables.data.datasets import all_datasets
from trainables.data.errors import DatasetChangedError, DatasetError
from trainables.data.feeding.splits import hold_out, split_target
from trainables.data.info import Sample
from trainables.data.inspection.sheet import overlaid, write_sheet
from trainables.data.inspection.verification import verify_dataset
from trainables.data.prepare import prepare
from trainables.data.prepared import folder_of
from trainables.data.store import ArrowDataset, write_dataset

DATA = all_datasets()
PH2, ISIC = DATA["ph2"], DATA["isic2018"]
SIDE = 32


def scene(number, side=SIDE):
    """A smooth random picture."""
    draws = np.random.default_rng(number).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(draws).resize((side, side), Image.Resampling.BICUBIC))


def sample(name, image, labels=None):
    side = len(image)
    labels = np.zeros((side, side), np.uint8) if labels is None else labels
    return Sample(id=name, image_HWC=image, labels_HW=labels)


def half(side=SIDE):
    labels = np.zeros((side, side), np.uint8)
    labels[: side // 2] = 1
    return labels


def write(home, info, samples):
    write_dataset(folder_of(home, info, SIDE), info, samples, SIDE)


def verified(home, info=PH2):
    return verify_dataset(info, home, DATA, image_size=SIDE)


def test_shares_of_classes_and_empty_images_are_counted(tmp_path):
    labels = half()
    labels[0] = 255
    samples = [sample("a", scene(0), half()), sample("b", scene(1), labels), sample("c", scene(2))]
    write(tmp_path, PH2, samples)
    found = verified(tmp_path)
    lesion = found.classes[1]
    # 16 and 15 of 32 rows in two of three images; one row is ignored.
    assert lesion.pixels == pytest.approx(31 / 95)
    assert (lesion.images, found.unlabelled) == (2, ("c",))
    assert found.ignored == pytest.approx(1 / 96)
    assert any("3 images instead of 200" in problem for problem in found.problems)


def test_a_copy_in_another_part_or_dataset_is_found_though_brighter_and_resized(tmp_path):
    images = {f"{i:02}": scene(i) for i in range(40)}
    bright = np.clip(images["03"].astype(int) + 12, 0, 255).astype(np.uint8)
    images["41"] = bright
    write(tmp_path, PH2, [sample(name, image, half()) for name, image in sorted(images.items())])
    larger = Image.fromarray(images["05"]).resize((77, 77)).resize((SIDE, SIDE))
    write(
        tmp_path, ISIC, [sample("x", scene(99), half()), sample("y", np.asarray(larger), half())]
    )
    found = verified(tmp_path)
    assert found.compared_with == ("isic2018",)
    pairs = {(each.first, each.second) for each in found.duplicates}
    assert pairs == {("03", "41"), ("05", "y")}
    assert {each.where for each in found.duplicates if each.second == "y"} == {"also in isic2018"}
    source = verified(tmp_path, ISIC)
    assert [(each.first, each.second) for each in source.duplicates] == [("y", "05")]


def leaks(found):
    return {each.where for each in found.duplicates if not each.where.startswith("within")}


def test_copies_across_the_hold_out_of_a_source_are_leaks(tmp_path):
    ids = [f"{i:02}" for i in range(40)]
    train, held = hold_out(ids, 0.1, 0)
    images = [scene(i) for i in range(40)]
    images[held[1]] = images[train[7]]
    images[train[9]] = images[train[3]]
    write(tmp_path, ISIC, [sample(*each, half()) for each in zip(ids, images, strict=True)])
    found = verified(tmp_path, ISIC)
    assert sorted(each.where for each in found.duplicates) == [
        "train and hold-out",
        "within train",
    ]
    assert (
        "1 pairs of images are the same or look alike across parts or datasets" in found.problems
    )


def test_copies_across_the_split_that_is_given_are_leaks_though_it_is_small(tmp_path):
    own = replace(PH2, name="mine")
    images = [scene(i) for i in range(30)]
    images[12] = images[2]  # Evaluated, and trained on.
    samples = [
        replace(sample(f"{i:02}", image, half()), split="train" if i < 4 else "test")
        for i, image in enumerate(images)
    ]
    write(tmp_path, own, samples)
    (where,) = leaks(verified(tmp_path, own))
    split = split_target(
        [each.id for each in samples],
        [each.split for each in samples],
        train_images=4,
        split_seed=0,
    )
    assert where == f"train and {'val' if 12 in split.val else 'test'}"


def test_a_set_for_both_uses_is_looked_at_in_both_ways(tmp_path):
    own = replace(PH2, name="mine", role="any")
    ids = [f"{i:02}" for i in range(60)]
    train, held = hold_out(ids, 0.1, 0)
    split = split_target(ids, [""] * 60, train_images=20, split_seed=0)
    one = next(i for i in split.train if i in train)
    other = next(i for i in split.test if i in held)
    images = [scene(i) for i in range(60)]
    images[other] = images[one]
    write(tmp_path, own, [sample(*each, half()) for each in zip(ids, images, strict=True)])
    assert leaks(verified(tmp_path, own)) == {"train and test", "train and hold-out"}


def test_only_the_same_pixels_are_called_the_same(tmp_path):
    images = {f"{i:02}": scene(i) for i in range(6)}
    images["06"], images["07"], images["08"] = (
        images["01"],
        images["02"][:, ::-1],
        (255 * (images["03"] / 255) ** 0.7).astype(np.uint8),
    )
    write(tmp_path, PH2, [sample(name, image, half()) for name, image in images.items()])
    found = {(each.first, each.second): each.likeness for each in verified(tmp_path).duplicates}
    assert found == {
        ("01", "06"): "the same",
        ("02", "07"): "alike, mirrored",
        ("03", "08"): "alike",
    }


def test_empty_images_are_the_same_and_like_nothing_else(tmp_path):
    images = [
        scene(0),
        np.zeros_like(scene(0)),
        np.zeros_like(scene(0)),
        np.full_like(scene(0), 9),
    ]
    write(tmp_path, PH2, [sample(f"{i}", image, half()) for i, image in enumerate(images)])
    (pair,) = verified(tmp_path).duplicates
    assert (pair.first, pair.second, pair.likeness) == ("1", "2", "the same")


def test_damage_is_found_though_the_file_looks_untouched(tmp_path):
    write(tmp_path, PH2, [sample("a", scene(0), half())])
    path = folder_of(tmp_path, PH2, SIDE) / "data.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetChangedError, match=r"data\.arrow: content changed"):
        verified(tmp_path)


def test_what_is_not_prepared_says_so(tmp_path):
    with pytest.raises(DatasetError, match="`ph2` is not prepared for 32 px"):
        verified(tmp_path)


def test_a_generated_set_is_whole_and_has_no_copies(tmp_path):
    info = DATA["ph2-like"]
    prepare(info, None, tmp_path, image_size=SIDE, images=40)
    found = verified(tmp_path, info)
    assert not found.duplicates
    assert all(each.images for each in found.classes)


def test_labels_are_tinted_and_outlined_and_the_rest_is_left_alone():
    image = np.full((8, 8, 3), 100, np.uint8)
    labels = np.zeros((8, 8), np.uint8)
    labels[2:7, 2:7] = 1
    shown = overlaid(image, labels, np.array([[0, 0, 0], [200, 0, 0]], np.uint8))
    assert (shown[labels == 0] == 100).all()
    np.testing.assert_array_equal(shown[4, 4], [135, 65, 65])  # 0.65 * 100 + 0.35 * colour
    np.testing.assert_array_equal(shown[2, 4], [200, 0, 0])


def test_a_sheet_shows_as_many_images_as_there_are_at_most(tmp_path):
    info = DATA["ph2-like"]
    found = prepare(info, None, tmp_path, image_size=SIDE, images=5)
    data = ArrowDataset.open(folder_of(tmp_path, info, SIDE), fingerprint=found.fingerprint)
    write_sheet(tmp_path / "out/sheet.png", data, found, images=24)
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.width > 4 * 160
    with pytest.raises(ValueError, match="at least one image"):
        write_sheet(tmp_path / "sheet.png", data, found, images=0)
