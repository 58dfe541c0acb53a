"""Finding Shenzhen and Montgomery however they were unpacked, and saying what is missing."""

import numpy as np
import pytest
from PIL import Image

from trainables.data.datasets import all_datasets
from trainables.data.errors import BadImageError, DatasetLayoutError
from trainables.data.releases.lungs import read_lungs

SHENZHEN, MONTGOMERY = (all_datasets()[name] for name in ("shenzhen", "montgomery"))


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def unpack_shenzhen(root):
    """The release: masks for two of three X-rays, and a file that is neither."""
    images = [f"ChinaSet_AllFiles/CXR_png/CHNCXR_000{i}_{i % 2}.png" for i in (1, 2, 3)]
    masks = [f"mask/mask/CHNCXR_000{i}_{i % 2}_mask.png" for i in (2, 1)]
    touch(root, *images, *masks, "ChinaSet_AllFiles/CXR_png/Thumbs.db", "mask/README.txt")


def unpack_montgomery(root):
    names = ("MCUCXR_0001_0.png", "MCUCXR_0104_1.png")
    folders = ("CXR_png", "ManualMask/leftMask", "ManualMask/rightMask")
    touch(root, *(f"MontgomerySet/{folder}/{name}" for folder in folders for name in names))


def unpack_bundle(root):
    """The bundle of both, with X-rays without mask in a `test` folder."""
    touch(
        root,
        "Lung Segmentation/CXR_png/CHNCXR_0001_0.png",
        "Lung Segmentation/CXR_png/MCUCXR_0001_0.png",
        "Lung Segmentation/masks/CHNCXR_0001_0_mask.png",
        "Lung Segmentation/masks/MCUCXR_0001_0.png",
        "Lung Segmentation/test/CHNCXR_0044_0.png",
        "__MACOSX/Lung Segmentation/CXR_png/CHNCXR_0001_0.png",
    )


def test_shenzhen_is_the_images_that_have_a_mask(tmp_path):
    unpack_shenzhen(tmp_path)
    entries = SHENZHEN.find(tmp_path).entries
    assert [entry.id for entry in entries] == ["CHNCXR_0001_1", "CHNCXR_0002_0"]
    assert entries[1].image == tmp_path / "ChinaSet_AllFiles/CXR_png/CHNCXR_0002_0.png"
    assert entries[1].masks == (tmp_path / "mask/mask/CHNCXR_0002_0_mask.png",)


def test_montgomery_has_two_masks_per_image(tmp_path):
    unpack_montgomery(tmp_path)
    entries = MONTGOMERY.find(tmp_path).entries
    assert [entry.id for entry in entries] == ["MCUCXR_0001_0", "MCUCXR_0104_1"]
    assert [mask.parent.name for mask in entries[0].masks] == ["leftMask", "rightMask"]


@pytest.mark.parametrize("above", ["", "downloads", "downloads/chest x-rays/nlm"])
def test_parents_and_the_folder_itself_may_be_named(tmp_path, above):
    unpack_shenzhen(tmp_path / above)
    unpack_montgomery(tmp_path / above)
    assert len(SHENZHEN.find(tmp_path).entries) == len(MONTGOMERY.find(tmp_path).entries) == 2
    assert len(MONTGOMERY.find(tmp_path / above / "MontgomerySet").entries) == 2


def test_both_are_found_in_the_bundle(tmp_path):
    unpack_bundle(tmp_path)
    (chinese,), (american,) = (info.find(tmp_path).entries for info in (SHENZHEN, MONTGOMERY))
    assert (chinese.id, american.id) == ("CHNCXR_0001_0", "MCUCXR_0001_0")
    assert [mask.name for mask in american.masks] == ["MCUCXR_0001_0.png"]
    assert american.masks[0].parent.name == "masks"


def test_masks_without_their_xray_are_all_named(tmp_path):
    unpack_shenzhen(tmp_path)
    touch(tmp_path, *(f"mask/mask/CHNCXR_00{i}_0_mask.png" for i in range(10, 17)))
    found = SHENZHEN.find(tmp_path)
    assert len(found.entries) == 2
    assert [problem.rpartition("/")[2] for problem in found.problems] == [
        f"CHNCXR_00{i}_0_mask.png: has no X-ray" for i in range(10, 17)
    ]


@pytest.mark.parametrize(
    ("lost", "problems"),
    [
        (
            "CXR_png/MCUCXR_0104_1.png",
            [
                "leftMask/MCUCXR_0104_1.png: has no X-ray",
                "rightMask/MCUCXR_0104_1.png: has no X-ray",
            ],
        ),
        ("ManualMask/leftMask/MCUCXR_0104_1.png", ["CXR_png/MCUCXR_0104_1.png: has no mask"]),
        ("ManualMask/rightMask/MCUCXR_0104_1.png", ["CXR_png/MCUCXR_0104_1.png: has no mask"]),
    ],
)
def test_every_file_of_montgomery_needs_its_counterparts(tmp_path, lost, problems):
    unpack_montgomery(tmp_path)
    (tmp_path / "MontgomerySet" / lost).unlink()
    found = MONTGOMERY.find(tmp_path)
    assert [entry.id for entry in found.entries] == ["MCUCXR_0001_0"]
    assert len(found.problems) == len(problems)
    assert all(one.endswith(end) for one, end in zip(found.problems, problems, strict=True))


@pytest.mark.parametrize("info", [SHENZHEN, MONTGOMERY])
def test_a_folder_with_something_else_says_what_is_looked_for(tmp_path, info):
    touch(tmp_path, "holiday/beach.png")
    message = f"the X-rays of {info.title} are not here: no file like .*CXR_####_#.png in"
    with pytest.raises(DatasetLayoutError, match=message):
        info.find(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DatasetLayoutError, match="nowhere: no such folder"):
        SHENZHEN.find(tmp_path / "nowhere")


def test_two_copies_are_not_guessed_between(tmp_path):
    unpack_shenzhen(tmp_path / "old")
    unpack_shenzhen(tmp_path / "new")
    with pytest.raises(DatasetLayoutError, match=r"several places, name one: .*new.*, .*old"):
        SHENZHEN.find(tmp_path)
    assert len(SHENZHEN.find(tmp_path / "new").entries) == 2


def save(root, folder, levels):
    path = root / "MontgomerySet" / folder / "MCUCXR_0001_0.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(levels, np.uint8)).save(path)


def test_the_lungs_of_both_masks_are_united_on_the_equalised_xray(tmp_path):
    save(tmp_path, "CXR_png", [[0, 0, 1, 2]])
    save(tmp_path, "ManualMask/leftMask", [[0, 0, 0, 255]])
    save(tmp_path, "ManualMask/rightMask", [[255, 0, 0, 0]])
    image, labels = read_lungs(MONTGOMERY.find(tmp_path).entries[0])
    np.testing.assert_array_equal(labels, [[1, 0, 0, 1]])
    np.testing.assert_allclose(image, [[0, 0, 180.3122, 255]], atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 6), (6, 6)])
def test_a_mask_of_another_shape_is_refused(tmp_path, shape):
    save(tmp_path, "CXR_png", np.eye(6, 4))
    save(tmp_path, "ManualMask/leftMask", np.eye(6, 4))
    save(tmp_path, "ManualMask/rightMask", np.eye(*shape))
    with pytest.raises(BadImageError, match=r"mask of \dx\d for an image of 4x6"):
        read_lungs(MONTGOMERY.find(tmp_path).entries[0])
