"""Masks lie where their images do: discs of known centre, through every loader and every batch.

A disc around (x, y) of an image W pixels wide has its centre of mass at x * S / W after resizing to S
pixels: of the image, whose levels are averaged over areas, and of the labels, if each is taken at the
centre of its output pixel. Labels taken at corners lie up to half an output pixel further.
"""

from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from PIL import Image

from trainables.data.datasets import all_datasets
from trainables.data.datasets.celebamask_hq import PARTS
from trainables.data.feeding.batches import augment, load_levels
from trainables.data.files.images import resize_image, resize_labels
from trainables.data.own.describe import describe
from trainables.data.own.imported import info_of
from trainables.data.prepare import How, prepare
from trainables.data.prepared import folder_of
from trainables.data.store import ArrowDataset

DATA = all_datasets()
SIDE = 64
# Centres, in units of the image; fractions of pixels at every size. Drawn on few pixels, a disc is
# some hundredths of a pixel off its centre: then it takes more of them.
DISCS = np.random.default_rng(0).uniform(0.36, 0.64, (20, 2)).round(3)
RADIUS = 0.31
# Rows and columns: smaller by 10.9 and 7.8, by 8 and 6 (centres on edges), and larger by 1.6 and 1.3.
SIZES = ((500, 700), (512, 384), (40, 52))


def disc(centre, height, width, *, fine=1):
    """Return how much of each pixel lies in a disc, in [0, 1], from fine x fine points in it."""
    y, x = np.ogrid[0 : height * fine, 0 : width * fine]
    inside = ((x + 0.5) / (width * fine) - centre[0]) ** 2 + (
        (y + 0.5) / (height * fine) - centre[1]
    ) ** 2 < RADIUS**2
    return inside.reshape(height, fine, width, fine).mean((1, 3))


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


def shots(height, width):
    """Yield number, photograph (dark disc on bright ground) and mask of each disc."""
    for number, centre in enumerate(DISCS[:4] if height > 100 else DISCS):
        covered = disc(centre, height, width, fine=4)
        photograph = np.repeat((200 - 160 * covered)[..., None], 3, axis=2)
        yield number, photograph, 255 * disc(centre, height, width)


def pairs(images, masks, root, height, width):
    for number, photograph, mask in shots(height, width):
        save(root / images.format(number), photograph)
        save(root / masks.format(number), mask)


def dermis(root, height, width):
    for number, photograph, mask in shots(height, width):
        folder = root / ("melanoma", "notmelanoma")[number > 1] / "dermis"
        save(folder / f"{number:02}_orig.png", photograph)
        save(folder / f"{number:02}_contour.png", mask)


def montgomery(root, height, width):
    for number, photograph, mask in shots(height, width):
        save(root / f"CXR_png/MCUCXR_{number:04}_0.png", photograph)
        for lung in ("leftMask", "rightMask"):  # Half of the disc each.
            half = mask * (np.arange(width) % 2 == (lung == "leftMask"))
            save(root / f"ManualMask/{lung}/MCUCXR_{number:04}_0.png", half)


def celebamask_hq(root, height, width):
    for number, photograph, _ in shots(height, width):
        save(root / f"CelebA-HQ-img/{number}.png", photograph)
        mask = 255 * disc(DISCS[number], height // 2, width // 2)
        save(root / f"CelebAMask-HQ-mask-anno/0/{number:05}_{PARTS[0]}.png", mask)


def ffhq34(root, height, width):
    for number, photograph, mask in shots(height, width):
        folder = root / "ffhq_34/real" / ("test", "train")[number > 1]
        save(folder / f"{number:02}.png", photograph)
        np.save(folder / f"{number:02}.npy", (mask > 0).astype(np.uint8))


RELEASES = {
    "isic2018": partial(
        pairs, "Training_Input/ISIC_{:07}.png", "Training_Truth/ISIC_{:07}_segmentation.png"
    ),
    "ph2": partial(pairs, "IMD{0:03}/a/IMD{0:03}.bmp", "IMD{0:03}/b/IMD{0:03}_lesion.bmp"),
    "dermis": dermis,
    "shenzhen": partial(pairs, "CXR_png/CHNCXR_{:04}_0.png", "mask/CHNCXR_{:04}_0_mask.png"),
    "montgomery": montgomery,
    "nih": partial(pairs, "NIH/images/{:02}.png", "NIH/masks/{:02}_mask.png"),
    "celebamask_hq": celebamask_hq,
    "ffhq34": ffhq34,
    "own": partial(pairs, "images/{:02}.png", "masks/{:02}.png"),
}


def own(root):
    (root / "classes.txt").write_text("ground\ndisc\n")
    return info_of(describe("own", root / "images", root / "masks", root / "classes.txt"))


def centre_of(weights):
    """Return x and y of the centre of mass, in pixels from the outer edge of the first."""
    y, x = np.mgrid[0 : weights.shape[0], 0 : weights.shape[1]] + 0.5
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


def offsets(images, labels):
    """Return how far images and labels lie from their discs, in pixels, on average over the discs."""
    wanted = len(labels[0]) * DISCS[: len(labels)]
    # The outermost ring of a photograph is ground: what is darker than it is the disc.
    dark = [np.clip(image[:2].mean() - image[..., 0].astype(float), 0, None) for image in images]
    found = (np.array([centre_of(each) for each in of]) - wanted for of in (dark, labels == 1))
    return [each.mean(0) for each in found]


def shift(source, side, at):
    """Return how far labels lie from where they should, in output pixels, on average over the axis.

    With p / q source pixels per output pixel in lowest terms, the corners i * p / q lie (q - 1) / 2q
    behind the pixel's edge on average, which leaves 1 / 2p of the half pixel. So do the centres where
    p is even, half a source pixel then being all that is wrong; where it is odd they are even.
    """
    p = Fraction(source, side).numerator
    if at == "corner":
        return 0.5 - 0.5 / p
    return 0 if p % 2 else -0.5 / p


@pytest.fixture(params=SIZES, ids=lambda size: "{}x{}".format(*size))
def size(request):
    return request.param


@pytest.mark.parametrize("name", RELEASES)
def test_labels_lie_where_the_image_is(name, size, tmp_path):
    RELEASES[name](tmp_path / "release", *size)
    info = DATA[name] if name in DATA else own(tmp_path / "release")
    found = prepare(
        info, tmp_path / "release", tmp_path / "home", image_size=SIDE, how=How(strict=False)
    )
    folder = folder_of(tmp_path / "home", info, SIDE)
    data = ArrowDataset.open(folder, fingerprint=found.fingerprint)
    everything = range(len(data))
    image, label = offsets(data.images(everything), data.labels(everything))
    at = "corner" if name == "ffhq34" else "centre"
    parts = 2 if name == "celebamask_hq" else 1  # Its masks have half the side.
    expected = [shift(pixels // parts, found.stored_side, at) for pixels in size[::-1]]
    np.testing.assert_allclose(image, 0, atol=0.05)
    np.testing.assert_allclose(label, expected, atol=0.05 if size[0] > 100 else 0.08)


@pytest.mark.parametrize("stored", [96, 112, 200])
def test_crops_keep_labels_where_the_image_is(stored):
    drawn = list(shots(stored, stored))
    image_of = [photograph.astype(np.uint8) for _, photograph, _ in drawn]
    label_of = [(mask > 0).astype(np.uint8) for _, _, mask in drawn]
    apart = {"image": [], "centre": [], "corner": []}
    for number, centre in enumerate(DISCS[: len(drawn)]):
        for seed in range(12):
            left, top, right, bottom = np.random.default_rng(seed).uniform(0, 0.05 * stored, 4)
            scale = np.array([stored - left - right, stored - top - bottom]) / SIDE
            wanted = (centre * stored - (left, top)) / scale
            for at in ("centre", "corner"):
                draw = np.random.default_rng(seed)
                image, labels = augment(
                    image_of[number], label_of[number], SIDE, "border_crop", draw, labels_at=at
                )
                apart[at].append(centre_of(labels == 1) - wanted)
            apart["image"].append(centre_of(200 - image[..., 0].astype(float)) - wanted)
    np.testing.assert_allclose(np.mean(apart["image"], 0), 0, atol=0.05)
    np.testing.assert_allclose(np.mean(apart["centre"], 0), 0, atol=0.05)
    np.testing.assert_allclose(np.mean(apart["corner"], 0), 0.5, atol=0.05)


def test_batches_take_labels_where_the_dataset_says(tmp_path):
    ffhq34(tmp_path / "release", 512, 512)
    opened = {}
    for name, at in (("ffhq34", "corner"), ("own", "centre")):
        info = DATA["ffhq34"]
        if name == "own":
            pairs("images/{:02}.png", "masks/{:02}.png", tmp_path / "release", 512, 512)
            info = own(tmp_path / "release")
        home = tmp_path / name
        found = prepare(info, tmp_path / "release", home, image_size=SIDE, how=How(strict=False))
        data = ArrowDataset.open(folder_of(home, info, SIDE), fingerprint=found.fingerprint)
        assert data.labels_at == found.labels_at == at
        opened[at] = data
    for at, data in opened.items():
        _, labels = load_levels(data, [0], image_size=24, augmentation="none", seeds=None)
        expected = resize_labels(data.labels([0])[0], 24, at=at)
        np.testing.assert_array_equal(labels[0].numpy(), expected)


def high(image):
    """Return the energy at frequencies above half of Nyquist's, along either axis."""
    level = image.astype(np.float64)
    spectrum = np.abs(np.fft.fft2(level - level.mean())) ** 2
    frequency = np.abs(np.fft.fftfreq(len(image)))
    return spectrum[np.maximum.outer(frequency, frequency) >= 0.25].sum()


@pytest.mark.parametrize(
    "crop", [(0, 0, 1, 1), (0.03, 0.02, 0.97, 0.96), (0.05, 0.05, 0.95, 0.95)]
)
def test_a_crop_is_as_sharp_as_one_rescaled_once_from_the_original(crop):
    # White noise at the size of an X-ray: every frequency that there is.
    size, side = 3000, 256
    stored_side = DATA["shenzhen"].stored_side(side)
    noise = np.random.default_rng(0).normal(128, 200, (size, size)).astype(np.float32)
    once = resize_image(noise, side, tuple(size * each for each in crop))

    def twice(stored_side, *, sharp):
        stored = resize_image(noise, stored_side, sharp=sharp).round().clip(0, 255)
        box = tuple(stored_side * each for each in crop)
        return resize_image(stored.astype(np.uint8), side, box)

    kept = high(twice(stored_side, sharp=True)) / high(once)
    assert 0.97 < kept < 1.03
    # What was stored before kept half of it.
    assert high(twice(288, sharp=False)) / high(once) < 0.55
