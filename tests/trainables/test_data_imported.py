"""Datasets of one's own: masks however they are coded, ids, class lists, and what is refused."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from trainables.data.datasets import all_datasets, known_datasets
from trainables.data.errors import BadReleaseError, DatasetError
from trainables.data.own.class_list import ClassList, read_classes
from trainables.data.own.describe import describe
from trainables.data.own.description import READING
from trainables.data.own.imported import info_of
from trainables.data.prepare import How, prepare
from trainables.data.prepared import folder_of
from trainables.data.store import ArrowDataset

SIDE = 16
COLOURS = {0: (0, 0, 0), 1: (255, 0, 0), 2: (0, 128, 64)}


def labels_of(number, classes=3):
    """Bands of the classes, shifted from image to image; exact at a side of 16."""
    rows = (np.arange(SIDE) // 4 + number) % classes
    return np.repeat(rows[:, None], SIDE, 1).astype(np.uint8)


def write_mask(path, labels, coding):
    path.parent.mkdir(parents=True, exist_ok=True)
    if coding == "npy":
        np.save(path.with_suffix(".npy"), labels)
    elif coding == "binary":
        Image.fromarray((labels > 0).astype(np.uint8) * 255).save(path)
    elif coding == "colours":
        rgb = np.array([COLOURS[i] for i in range(3)], np.uint8)[labels]
        Image.fromarray(rgb).save(path)
    elif coding == "palette":
        image = Image.fromarray(labels, mode="P")
        image.putpalette([9, 9, 9, 8, 8, 8, 7, 7, 7])  # Its colours say nothing about the classes.
        image.save(path)
    else:
        Image.fromarray(labels).save(path)


def write_set(root, coding, *, count=6, classes=3, name="{:02}", mask="{:02}"):
    for i in range(count):
        image = np.full((SIDE, SIDE, 3), 40 * i, np.uint8)
        path = root / "images" / f"{name.format(i)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        write_mask(root / "masks" / f"{mask.format(i)}.png", labels_of(i, classes), coding)
    lines = [f"{n} {' '.join(map(str, COLOURS[i]))}" for i, n in enumerate("abc")]
    text = lines if coding == "colours" else list("abc")
    (root / "classes.txt").write_text("\n".join(text[:classes]) + "\n")


def described(root, **told):
    return describe("mine", root / "images", root / "masks", root / "classes.txt", **told)


def prepared(dataset, home, **how):
    info = info_of(dataset)
    found = prepare(info, root_of(dataset), home, image_size=SIDE, how=How(strict=False, **how))
    return ArrowDataset.open(folder_of(home, info, SIDE), fingerprint=found.fingerprint)


def root_of(dataset):
    from pathlib import Path

    return Path(dataset.images)


@pytest.mark.parametrize("coding", ["ids", "palette", "colours", "npy"])
def test_the_coding_of_masks_is_told_and_read(tmp_path, coding):
    write_set(tmp_path, coding)
    dataset = described(tmp_path)
    assert (dataset.encoding, dataset.metric) == (coding, "miou_ledm")
    data = prepared(dataset, tmp_path / "home")
    for i in range(6):
        np.testing.assert_array_equal(data.labels([i])[0], labels_of(i))
        assert (data.images([i]) == 40 * i).all()


@pytest.mark.parametrize("coding", ["binary", "ids"])
def test_two_classes_are_0_and_255_or_0_and_1(tmp_path, coding):
    write_set(tmp_path, coding, classes=2)
    dataset = described(tmp_path)
    assert (dataset.encoding, dataset.metric) == (coding, "jaccard")
    labels = prepared(dataset, tmp_path / "home").labels([1])[0]
    np.testing.assert_array_equal(labels, labels_of(1, 2))


def test_every_coding_of_the_same_labels_is_the_same_dataset(tmp_path):
    fingerprints = set()
    for coding in ("ids", "palette", "npy"):
        write_set(tmp_path / coding, coding)
        dataset = described(tmp_path / coding)
        info = info_of(dataset)
        fingerprints.add(
            prepare(info, tmp_path, tmp_path / coding / "home", image_size=SIDE).fingerprint
        )
    assert len(fingerprints) == 1


def test_255_is_ignored_where_masks_hold_ids(tmp_path):
    write_set(tmp_path, "ids", classes=2)
    labels = labels_of(0, 2)
    labels[0] = 255
    write_mask(tmp_path / "masks/00.png", labels, "ids")
    dataset = described(tmp_path)
    assert dataset.encoding == "ids"
    assert (prepared(dataset, tmp_path / "home").labels([0])[0][0] == 255).all()


def recoded(root, levels_of):
    """Replace the levels 0 and 1 of all masks by others; by place, where they differ."""
    for i, path in enumerate(sorted((root / "masks").iterdir())):
        labels = np.asarray(Image.open(path))
        Image.fromarray(np.array(levels_of(i), np.uint8)[labels]).save(path)


@pytest.mark.parametrize(
    ("levels_of", "message"),
    [
        (
            lambda _: (1, 2),
            r"00\.png: level 2 in a mask of two classes, which must be coded as 0 and",
        ),
        (lambda _: (0, 128), r"00\.png: level 128 in a mask of two classes"),
        (lambda i: (0, 255 if i else 1), r"00\.png has the levels 0 and 1, .*01\.png 0 and 255"),
    ],
    ids=["1 and 2", "0 and 128", "mixed"],
)
def test_levels_of_two_classes_that_may_mean_anything_are_refused(tmp_path, levels_of, message):
    write_set(tmp_path, "ids", classes=2)
    recoded(tmp_path, levels_of)
    with pytest.raises(DatasetError, match=message):
        described(tmp_path)


def test_smoothed_masks_of_two_classes_say_how_to_read_them(tmp_path):
    write_set(tmp_path, "binary", classes=2)
    levels = np.asarray(Image.open(tmp_path / "masks/03.png")).copy()
    levels[:, 0] = np.linspace(0, 255, SIDE)
    Image.fromarray(levels).save(tmp_path / "masks/03.png")
    with pytest.raises(
        DatasetError, match=r"03\.png: level 17 .*smoothed, --encoding binary takes"
    ):
        described(tmp_path)
    data = prepared(described(tmp_path, encoding="binary"), tmp_path / "home")
    np.testing.assert_array_equal(data.labels([3])[0], (levels > 127).astype(np.uint8))


def test_smoothed_labels_of_more_classes_say_what_is_wrong(tmp_path):
    write_set(tmp_path, "ids")
    for path in sorted((tmp_path / "masks").iterdir())[:4]:
        small = Image.fromarray(np.asarray(Image.open(path)) * 100)
        small.resize((31, 31), Image.Resampling.BILINEAR).resize((SIDE, SIDE)).save(path)
    with pytest.raises(DatasetError, match=r"none of the 3 classes, and so in 4 of 6 masks"):
        described(tmp_path)


def test_white_is_the_same_for_all_images_of_a_dataset(tmp_path):
    write_set(tmp_path, "ids")
    brightest = (4000, 2000, 100)
    for i, level in enumerate(brightest):
        levels = np.full((SIDE, SIDE), level, np.uint16)
        Image.fromarray(levels).save(tmp_path / f"images/{i:02}.png")
    dataset = described(tmp_path)
    assert dataset.white == 4095
    images = prepared(dataset, tmp_path / "home").images(range(6))
    # 255 / 4095 of 4000, 2000 and 100; then the images of 8 bits, as they were.
    np.testing.assert_array_equal(images[:, 0, 0, 0], [249, 125, 6, 120, 160, 200])


def test_a_description_without_deep_images_is_the_one_it_was_before_there_were_any(tmp_path):
    write_set(tmp_path, "ids")
    dataset = described(tmp_path)
    assert dataset.white is None
    whole = dataset.model_dump_json()
    first, _, rest = whole.partition(',"white":null')
    assert first + rest != whole
    before = first + "}"  # What descriptions had then; all fields after it are newer.
    assert info_of(dataset).version == int(
        hashlib.sha256(f"{READING} {before}".encode()).hexdigest()[:12], 16
    )


def test_files_of_kinds_that_are_not_read_are_named(tmp_path):
    write_set(tmp_path, "ids")
    (tmp_path / "images/02.png").rename(tmp_path / "images/02.dcm")
    (tmp_path / "masks/04.png").rename(tmp_path / "masks/04.jpg")
    (tmp_path / "images/05.dcm").touch()  # There is a PNG of it.
    with pytest.raises(BadReleaseError) as caught:
        prepared(described(tmp_path), tmp_path / "home")
    told = "\n".join(caught.value.problems)
    assert f"{tmp_path}/images/02.dcm: `.dcm` is not read; save it as PNG" in told
    assert (
        f"{tmp_path}/masks/04.jpg: `.jpg` is not read as a mask, whose labels JPEG blurs" in told
    )
    assert "05.dcm" not in told
    assert len(prepared(described(tmp_path), tmp_path / "home", skip_bad=True)) == 4


def test_a_folder_of_nothing_but_such_files_names_them(tmp_path):
    write_set(tmp_path, "ids")
    for path in (tmp_path / "masks").iterdir():
        path.rename(path.with_suffix(".jpg"))
    with pytest.raises(
        BadReleaseError, match=r"(?s)6 files cannot be used.*00\.jpg: `\.jpg` is not"
    ):
        described(tmp_path)


def test_names_of_masks_may_say_that_they_are_masks(tmp_path):
    write_set(tmp_path, "ids", name="sub dir/bild é {:02}", mask="sub dir/bild é {:02}_mask")
    data = prepared(described(tmp_path), tmp_path / "home")
    assert data.ids[0] == "sub dir/bild é 00"


def test_images_and_masks_may_share_a_folder(tmp_path):
    write_set(tmp_path, "ids", mask="../images/{:02}_mask")
    dataset = describe("mine", tmp_path / "images", tmp_path / "images", tmp_path / "classes.txt")
    assert prepared(dataset, tmp_path / "home").ids == tuple(f"{i:02}" for i in range(6))


def test_training_images_can_be_named(tmp_path):
    write_set(tmp_path, "ids")
    (tmp_path / "ids.txt").write_text("# my split\n04\n01\n")
    data = prepared(described(tmp_path, train=tmp_path / "ids.txt"), tmp_path / "home")
    assert data.official_split == ("test", "train", "test", "test", "train", "test")


def test_an_imported_dataset_is_known_in_its_home_only(tmp_path):
    write_set(tmp_path, "ids")
    (tmp_path / "home/datasets").mkdir(parents=True)
    (tmp_path / "home/datasets/mine.json").write_text(described(tmp_path).model_dump_json())
    assert known_datasets(tmp_path / "home")["mine"].role == "any"
    assert "mine" not in known_datasets(tmp_path / "other")
    assert "mine" not in all_datasets()
    (tmp_path / "home/datasets/mine.json").write_text("{")
    with pytest.raises(
        DatasetError, match=r"mine\.json: not the description .* import `mine` again"
    ):
        known_datasets(tmp_path / "home")


def test_told_otherwise_it_is_prepared_again(tmp_path):
    write_set(tmp_path, "ids", classes=2)
    one, other = described(tmp_path), described(tmp_path, encoding="binary")
    assert info_of(one).version != info_of(other).version


def bad_label(root):
    write_mask(root / "masks/03.png", np.full((SIDE, SIDE), 7, np.uint8), "ids")


def bad_size(root):
    write_mask(root / "masks/03.png", np.zeros((SIDE, 5), np.uint8), "ids")


def no_mask(root):
    (root / "masks/03.png").unlink()


def no_image(root):
    (root / "images/03.png").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (bad_label, r"masks/03\.png: label 7, but the 3 classes are 0 to 2"),
        (bad_size, r"masks/03\.png: mask of 5x16 for an image of 16x16"),
        (no_mask, r"images/03\.png: has no mask"),
        (no_image, r"masks/03\.png: has no image"),
    ],
)
def test_what_is_wrong_with_a_file_names_it(tmp_path, spoil, message):
    write_set(tmp_path, "ids")
    spoil(tmp_path)
    dataset = described(tmp_path, encoding="ids")
    with pytest.raises(BadReleaseError, match=message):
        prepared(dataset, tmp_path / "home")
    assert len(prepared(dataset, tmp_path / "home", skip_bad=True)) == 5


def test_a_colour_that_is_no_class_is_named_with_its_place(tmp_path):
    write_set(tmp_path, "colours")
    path = tmp_path / "masks/02.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[3, 5] = (1, 2, 3)
    Image.fromarray(pixels).save(path)
    message = r"02\.png: the colour \(1, 2, 3\) at column 5, row 3 is no class \(1 such"
    with pytest.raises(BadReleaseError, match=message):
        prepared(described(tmp_path), tmp_path / "home")


def test_colours_without_a_table_and_mixed_masks_are_refused(tmp_path):
    write_set(tmp_path, "colours")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    with pytest.raises(DatasetError, match="give each class its own in the class list"):
        described(tmp_path)
    (tmp_path / "masks/00.png").unlink()
    write_mask(tmp_path / "masks/00.png", labels_of(0), "ids")
    with pytest.raises(DatasetError, match="coded in several ways, name one with --encoding"):
        described(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("only\n", "1 classes; 2 to 255"),
        ("a\na\n", "the class a is there twice"),
        ("a 0 0 0\nb\n", "1 of 2 classes have a colour"),
        ("a 0 0 0\nb 0 0 0\n", r"the colour \(0, 0, 0\) is there twice"),
        ("a 0 0 0\nb 0 0 256\n", "colours go from 0 to 255"),
    ],
)
def test_class_lists_that_cannot_be_used_say_why(tmp_path, text, message):
    path = tmp_path / "classes.txt"
    path.write_text(text)
    with pytest.raises(DatasetError, match=rf"classes\.txt: .*{message}"):
        read_classes(path)


def test_class_names_may_have_spaces_and_colours_commas(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("\ufeffthe background, 0, 0, 0\n# comment\n\nleft lung 255 0 10\n", "utf-8")
    names, colours = ("the background", "left lung"), ((0, 0, 0), (255, 0, 10))
    assert read_classes(path) == ClassList(names, colours, ids=())


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("nobody\n", "no image has the id nobody"),
        ("", "names 0 of 6 images"),
        ("00\n", "1 of 6 images to train on, which leaves 5; at least 2 to train on"),
        (
            "00\n01\n02\n03\n04\n",
            "5 of 6 images to train on, which leaves 1; .* one each to validate",
        ),
    ],
)
def test_id_lists_that_cannot_be_used_say_why(tmp_path, ids, message):
    write_set(tmp_path, "ids")
    (tmp_path / "ids.txt").write_text(ids)
    with pytest.raises(DatasetError, match=rf"ids\.txt: {message}"):
        described(tmp_path, train=tmp_path / "ids.txt")


def test_folders_that_do_not_belong_together_are_refused(tmp_path):
    write_set(tmp_path, "ids")
    (tmp_path / "elsewhere").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "elsewhere/another.png")
    with pytest.raises(DatasetError, match="elsewhere: no mask has the name of an image in"):
        describe("mine", tmp_path / "images", tmp_path / "elsewhere", tmp_path / "classes.txt")


@pytest.mark.parametrize("name", ["My Set", "../up", "a-like", ""])
def test_names_are_plain(tmp_path, name):
    with pytest.raises(DatasetError, match="names are lower-case letters"):
        describe(name, tmp_path, tmp_path, tmp_path)
