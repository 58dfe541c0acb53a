"""What a contact sheet says: each class by colour, number, name and counts; what is ignored."""

import numpy as np
import pytest
from PIL import Image

from trainables.data.contents import read_contents
from trainables.data.datasets import all_datasets
from trainables.data.info import Sample
from trainables.data.inspection.sheet import (
    _numbers,
    class_colours,
    legend_of,
    overlaid,
    write_sheet,
)
from trainables.data.store import ArrowDataset, write_dataset

SIDE = 32


def dataset(root, name, maps):
    info = all_datasets()[name]
    samples = [
        Sample(id=f"{n:02}", image_HWC=np.full((SIDE, SIDE, 3), 120, np.uint8), labels_HW=labels)
        for n, labels in enumerate(maps)
    ]
    prepared = write_dataset(root, info, iter(samples), SIDE)
    data = ArrowDataset.open(root, fingerprint=prepared.fingerprint)
    return prepared, data, read_contents(root)


def test_the_legend_counts_pixels_and_images_of_the_whole_dataset(tmp_path):
    first, second = np.zeros((2, SIDE, SIDE), np.uint8)
    first[:8] = 1  # A quarter of the first image,
    second[:16] = 255  # and half of the second is ignored.
    prepared, _, contents = dataset(tmp_path / "set", "ph2", [first, second])
    assert list(legend_of(prepared, contents).lines()) == [
        "0 background, 83.33% of pixels, in 2 images",  # 24 + 16 rows of 48
        "1 lesion, 16.67% of pixels, in 1 images",
    ]
    # In a home from before these were noted.
    older = prepared.model_copy(update={"pixels": ()})
    assert list(legend_of(older, None).lines()) == ["0 background", "1 lesion"]


@pytest.mark.parametrize("name", ["ph2", "celebamask_hq", "ffhq34"])
def test_every_class_has_its_colour_in_the_picture(tmp_path, name):
    classes = len(all_datasets()[name].classes)
    labels = (np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % classes).astype(np.uint8)
    prepared, data, contents = dataset(tmp_path / "set", name, [labels] * 3)
    write_sheet(tmp_path / "sheet.png", data, prepared, images=3, contents=contents)
    picture = np.asarray(Image.open(tmp_path / "sheet.png"))
    legend = picture[: picture.shape[0] // 2]
    for colour in class_colours(classes)[1:]:
        assert (legend == colour).all(2).sum() >= 100  # A swatch of 11 x 11.


@pytest.mark.parametrize("classes", [2, 19, 34])
def test_colours_are_told_apart(classes):
    colours = class_colours(classes).astype(int)
    apart = np.abs(colours[:, None] - colours[None]).max(2)
    assert apart[~np.eye(classes, dtype=bool)].min() >= 20


def test_ignored_pixels_are_striped_in_black_and_white_whatever_lies_below():
    labels = np.full((16, 16), 255, np.uint8)
    labels[:, 8:] = 0
    for level in (0, 128, 255):
        image = np.full((16, 16, 3), level, np.uint8)
        shown = overlaid(image, labels, class_colours(2))
        striped = shown[:, :7]
        assert set(np.unique(striped)) == {0, 255}
        assert 0.4 < (striped == 255).mean() < 0.6
        assert (shown[:, 9:] == level).all()


def test_numbers_stand_within_their_regions_and_only_where_there_is_room():
    labels = np.zeros((100, 100), np.uint8)
    labels[10:50, 20:80] = 3
    labels[80:85, 10:90] = 7  # Five rows: too thin.
    ((label, x, y),) = _numbers(labels, range(1, 10))
    assert label == 3
    assert 25 <= x < 75
    assert 28 <= y <= 31
