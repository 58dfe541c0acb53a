"""Copies of an image against images that only resemble it: drawn ones, and real ones where they are."""

import io

import numpy as np
import pytest
from PIL import Image

from trainables.data.datasets import all_datasets
from trainables.data.files.images import read_colour, read_grey, resize_image
from trainables.data.inspection.likeness import (
    DETAIL_SIDE,
    agreement,
    candidates,
    detail,
    layout,
    least_detail,
)
from trainables.data.releases.chest_xray import equalise

DATA = all_datasets()


def alike(images, others, side):
    """Return the pairs of places that look alike."""
    ours, theirs = (np.stack([layout(each) for each in of]) for of in (images, others))
    return {
        (one, other)
        for one, other in candidates(ours, theirs)
        if agreement(detail(images[one], side), detail(others[other], side))[0]
        >= least_detail(side)
    }


def encoded(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def rescaled(image, share):
    small = Image.fromarray(image).resize((round(len(image) * share),) * 2)
    return np.asarray(small.resize((len(image), len(image))))


def equalised(image):
    grey = np.asarray(Image.fromarray(image).convert("L"))
    return np.repeat(equalise(grey).round().astype(np.uint8)[..., None], 3, axis=2)


COPIES = {
    "encoded": lambda image: encoded(image, 75),
    "rescaled": lambda image: rescaled(image, 0.6),
    "brightened": lambda image: (255 * (image / 255) ** 0.6).astype(np.uint8),
    "equalised": equalised,
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
}


def dotted(number, side=128):
    """One gradient, the same in all, with a dot of its own."""
    draw = np.random.default_rng(number)
    y, x = np.mgrid[0:side, 0:side] / side
    image = 60 + 120 * (0.7 * x + 0.3 * y)
    centre = draw.uniform(0.1, 0.9, 2)
    image[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < 0.05**2] = 20
    image = image + draw.normal(0, 1, image.shape)
    return np.repeat(image.round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("side", [32, 64, 128])
def test_gradients_with_a_dot_each_are_different_images(side):
    images = [np.asarray(Image.fromarray(dotted(n)).resize((side, side))) for n in range(24)]
    layouts = np.stack([layout(each) for each in images])
    assert len(list(candidates(layouts, layouts))) == 24 * 24  # Nothing tells them apart there.
    assert alike(images, images, side) == {(n, n) for n in range(24)}


def test_only_one_pair_of_orientations_is_found_mirrored():
    image = dotted(0)
    for turned, flipped in ((image, False), (image[:, ::-1], True), (image[::-1, ::-1], True)):
        agreed, is_flipped = agreement(detail(image, 64), detail(turned, 64))
        assert agreed == pytest.approx(1, abs=1e-3)
        assert is_flipped == flipped


def photographs(real_data, name, count):
    info = DATA[name]
    entries = sorted(info.find(real_data).entries, key=lambda each: each.id)[:count]
    return [resize_image(read_colour(entry.image), 256) for entry in entries]


@pytest.mark.parametrize("stored", [64, 256])
@pytest.mark.parametrize("name", ["ph2", "shenzhen", "montgomery"])
def test_real_copies_are_found_and_other_images_are_not_taken_for_them(real_data, name, stored):
    images = photographs(real_data, name, 50)
    side = min(stored, DETAIL_SIDE)
    kept = [resize_image(each, stored) for each in images]
    every = {(n, n) for n in range(len(images))}
    assert alike(kept, kept, side) == every
    for what, change in COPIES.items():
        copies = [resize_image(np.ascontiguousarray(change(each)), stored) for each in images]
        found = alike(kept, copies, side)
        assert found <= every, what
        assert len(every - found) <= 1, what  # A film that is black for the most part, at 64 px.


def test_xrays_without_equalisation_are_recognised(real_data):
    entries = DATA["montgomery"].find(real_data).entries
    levels = [read_grey(entry.image) for entry in entries]
    ours, theirs = (
        [
            np.repeat(resize_image(each.astype(np.float32), 256).round()[..., None], 3, 2)
            for each in of
        ]
        for of in (map(equalise, levels), levels)
    )
    found = alike(
        *([each.clip(0, 255).astype(np.uint8) for each in of] for of in (ours, theirs)), 128
    )
    assert found == {(n, n) for n in range(138)}
