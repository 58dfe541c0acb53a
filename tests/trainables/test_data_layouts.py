"""The other six releases in their official layouts, drawn small: what is found, and what is read.

Worked by hand from method.md 6: the order in which CelebA's parts are painted, DermIS's folders in
both spellings, FFHQ-34's fixed split.
"""

import numpy as np
import pytest
from PIL import Image

from trainables.data.datasets import all_datasets
from trainables.data.datasets.celebamask_hq import PARTS
from trainables.data.errors import BadImageError, BadReleaseError, DatasetLayoutError
from trainables.data.prepare import How, prepare
from trainables.data.prepared import folder_of
from trainables.data.store import ArrowDataset

DATA = all_datasets()
SIDE = 16


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path, **options)
    return path


def photograph(path, *, height=20, width=30):
    rng = np.random.default_rng(len(str(path)))
    return save(path, rng.integers(0, 255, (height, width, 3)))


def mask(path, *, height=20, width=30, rows=slice(5, 15), columns=slice(10, 20)):
    levels = np.zeros((height, width))
    levels[rows, columns] = 255
    return save(path, levels)


def prepared(name, root, home, **how):
    found = prepare(DATA[name], root, home, image_size=SIDE, how=How(strict=False, **how))
    return ArrowDataset.open(folder_of(home, DATA[name], SIDE), fingerprint=found.fingerprint)


def ids(name, root):
    found = DATA[name].find(root)
    assert not found.problems
    return [entry.id for entry in found.entries]


def isic(root):
    for i in (3, 1):
        photograph(root / f"ISIC2018_Task1-2_Training_Input/ISIC_000000{i}.jpg")
        mask(root / f"ISIC2018_Task1_Training_GroundTruth/ISIC_000000{i}_segmentation.png")
    (root / "ISIC2018_Task1-2_Training_Input/LICENSE.txt").touch()
    (root / "ISIC2018_Task1-2_Training_Input/ATTRIBUTION.txt").touch()


def test_isic_is_the_training_images_with_their_masks(tmp_path):
    isic(tmp_path)
    assert ids("isic2018", tmp_path) == ["ISIC_0000001", "ISIC_0000003"]
    data = prepared("isic2018", tmp_path, tmp_path / "home")
    # 10 x 10 of 30 x 20 pixels; the aspect ratio is not kept.
    assert data.labels([0]).mean() == pytest.approx(100 / 600, abs=0.04)
    assert set(np.unique(data.labels([0, 1]))) == {0, 1}


def test_images_of_isic_for_validation_and_test_are_left_out(tmp_path):
    isic(tmp_path)
    photograph(tmp_path / "ISIC2018_Task1-2_Validation_Input/ISIC_0000007.jpg")
    mask(tmp_path / "ISIC2018_Task1_Test_GroundTruth/ISIC_0000009_segmentation.png")
    assert ids("isic2018", tmp_path) == ["ISIC_0000001", "ISIC_0000003"]


@pytest.mark.parametrize("above", ["PH2Dataset/PH2 Dataset images", "PH_Dataset_images"])
def test_ph2_has_a_folder_per_image(tmp_path, above):
    for name in ("IMD002", "IMD437"):
        folder = tmp_path / above / name
        photograph(folder / f"{name}_Dermoscopic_Image/{name}.bmp")
        mask(folder / f"{name}_lesion/{name}_lesion.bmp")
        mask(folder / f"{name}_roi/{name}_R1_Label2.bmp")
    assert ids("ph2", tmp_path) == ["IMD002", "IMD437"]
    assert prepared("ph2", tmp_path, tmp_path / "home").ids == ("IMD002", "IMD437")


def test_ph2_as_two_folders(tmp_path):
    for i in (1, 2):
        photograph(tmp_path / f"trainx/X_img_{i}.bmp")
        mask(tmp_path / f"trainy/Y_img_{i}.bmp")
    assert ids("ph2", tmp_path) == ["img_1", "img_2"]


def test_masks_of_ph2_in_colour_and_in_one_bit_are_read_alike(tmp_path):
    photograph(tmp_path / "IMD002/IMD002_Dermoscopic_Image/IMD002.bmp")
    photograph(tmp_path / "IMD003/IMD003_Dermoscopic_Image/IMD003.bmp")
    levels = np.zeros((20, 30), np.uint8)
    levels[5:15, 10:20] = 255
    one_bit = tmp_path / "IMD002/IMD002_lesion/IMD002_lesion.bmp"
    one_bit.parent.mkdir()
    Image.fromarray(levels).convert("1").save(one_bit)
    save(tmp_path / "IMD003/IMD003_lesion/IMD003_lesion.bmp", np.repeat(levels[..., None], 3, 2))
    data = prepared("ph2", tmp_path, tmp_path / "home")
    np.testing.assert_array_equal(*data.labels([0, 1]))


def test_dermis_is_both_kinds_in_either_spelling_and_no_dermquest(tmp_path):
    first, second = "Skin Image Data Set-1/skin_data", "Skin Image Data Set-2/skin_data"
    for folder, name in (
        (f"{first}/melanoma/dermIS", "1"),
        (f"{second}/notmelanoma/dermis", "1"),
        (f"{second}/notmelanoma/dermis", "SSM_12"),
        (f"{first}/melanoma/dermquest", "7"),
    ):
        photograph(tmp_path / folder / f"{name}_orig.jpg")
        mask(tmp_path / folder / f"{name}_contour.png")
    assert ids("dermis", tmp_path) == ["melanoma/1", "notmelanoma/1", "notmelanoma/SSM_12"]


def test_half_of_dermis_says_which_half_is_missing(tmp_path):
    photograph(tmp_path / "melanoma/dermIS/1_orig.jpg")
    mask(tmp_path / "melanoma/dermIS/1_contour.png")
    with pytest.raises(DatasetLayoutError, match=r"not here: no folder notmelanoma/dermis"):
        DATA["dermis"].find(tmp_path)


def test_nih_is_its_folder_of_xlsor_alone(tmp_path):
    for name in ("JSRT", "NIH"):
        for i in (1, 2):
            save(
                tmp_path / f"XLSor_data/data/{name}/images/0000{i}_00.png",
                np.full((20, 20), [0] * 10 + [9] * 10).T,
            )
            mask(tmp_path / f"XLSor_data/data/{name}/masks/0000{i}_00_mask.png", width=20)
    assert ids("nih", tmp_path) == ["00001_00", "00002_00"]
    assert all("NIH" in str(entry.image) for entry in DATA["nih"].find(tmp_path).entries)
    data = prepared("nih", tmp_path, tmp_path / "home")
    # Equalised: of two grey levels, 0 and 9, one is black and the other white.
    assert (data.images([0]).min(), data.images([0]).max()) == (0, 255)


def celeba(root, masks, *, image_side=32):
    """A portrait of 32 px with masks of 16 px, as 1024 is to 512; rows of `masks` by part."""
    save(root / "CelebA-HQ-img/7.jpg", np.full((image_side, image_side, 3), 120))
    for part, rows in masks.items():
        path = root / f"CelebAMask-HQ-mask-anno/0/00007_{part}.png"
        mask(path, height=16, width=16, rows=rows, columns=slice(None))


def test_parts_of_celeba_are_painted_in_the_official_order_whatever_the_files_are_called(tmp_path):
    celeba(
        tmp_path,
        {
            "hair": slice(0, 4),
            "skin": slice(2, 12),  # Under the hair and the nose, though painted from a later file.
            "nose": slice(6, 8),
            "neck_l": slice(11, 14),
            "neck": slice(12, 15),  # 17 after 16: the neck hides the necklace.
        },
    )
    labels = prepared("celebamask_hq", tmp_path, tmp_path / "home").labels([0])[0]
    expected = [13] * 4 + [1] * 2 + [2] * 2 + [1] * 3 + [16] + [17] * 3 + [0]
    np.testing.assert_array_equal(labels[:, 0], expected)


def test_a_part_is_wherever_its_mask_is_not_black(tmp_path):
    celeba(tmp_path, {"skin": slice(0, 16)})
    levels = np.zeros((16, 16))
    levels[3] = 1
    save(tmp_path / "CelebAMask-HQ-mask-anno/0/00007_hat.png", levels)
    labels = prepared("celebamask_hq", tmp_path, tmp_path / "home").labels([0])[0]
    np.testing.assert_array_equal(labels[:5, 0], [1, 1, 1, 14, 1])


def test_the_eighteen_parts_of_celeba_and_their_labels():
    classes = DATA["celebamask_hq"].classes
    assert len(PARTS) == 18
    assert classes.index("skin") == 1
    assert classes.index("hair") == 13
    assert classes.index("cloth") == 18


def test_parts_and_portraits_of_celeba_that_stand_alone_are_named(tmp_path):
    celeba(tmp_path, {"skin": slice(0, 9)})
    save(tmp_path / "CelebA-HQ-img/8.jpg", np.zeros((32, 32, 3)))
    mask(tmp_path / "CelebAMask-HQ-mask-anno/1/02000_skin.png", height=16, width=16)
    mask(tmp_path / "CelebAMask-HQ-mask-anno/0/00007_beard.png", height=16, width=16)
    problems = DATA["celebamask_hq"].find(tmp_path).problems
    said = "\n".join(problems)
    assert len(problems) == 3
    assert "00007_beard.png: `beard` is no part" in said
    assert "8.jpg: has no mask of any part" in said
    assert "02000_skin.png: has no portrait" in said


def ffhq(root, *, where="datasets/ffhq_34/real"):
    for split, first in (("train", 0), ("test", 100)):
        for i in range(first, first + 3):
            photograph(root / where / split / f"{i:05}.png", height=24, width=24)
            labels = np.full((24, 24), i % 34, np.uint8)
            labels[0] = 255
            np.save(root / where / split / f"{i:05}.npy", labels)


def test_ffhq_keeps_its_split_and_its_ignored_pixels(tmp_path):
    ffhq(tmp_path)
    ffhq(tmp_path, where="datasets/cat_15/real")
    ffhq(tmp_path, where="datasets/ffhq_34/ddpm")
    data = prepared("ffhq34", tmp_path, tmp_path / "home")
    assert data.ids == tuple(
        f"{split}/{i:05}"
        for split, i in [
            ("test", 100),
            ("test", 101),
            ("test", 102),
            ("train", 0),
            ("train", 1),
            ("train", 2),
        ]
    )
    assert data.official_split == ("test",) * 3 + ("train",) * 3
    assert set(np.unique(data.labels([0]))) == {100 % 34, 255}


def test_a_label_beyond_the_34_classes_is_named(tmp_path):
    ffhq(tmp_path)
    np.save(tmp_path / "datasets/ffhq_34/real/train/00001.npy", np.full((24, 24), 34, np.uint8))
    np.save(tmp_path / "datasets/ffhq_34/real/test/00102.npy", np.full((24, 24), 90, np.uint8))
    with pytest.raises(BadReleaseError, match="2 files cannot be used") as caught:
        prepared("ffhq34", tmp_path, tmp_path / "home")
    wrong = "label {}, but the 34 classes are 0 to 33, and 255 for ignored pixels"
    folder = tmp_path / "datasets/ffhq_34/real"
    assert caught.value.problems == (
        f"{folder}/test/00102.npy: {wrong.format(90)}",
        f"{folder}/train/00001.npy: {wrong.format(34)}",
    )
    assert len(prepared("ffhq34", tmp_path, tmp_path / "home", skip_bad=True)) == 4


@pytest.mark.parametrize("name", ["isic2018", "ph2", "dermis", "nih", "celebamask_hq", "ffhq34"])
def test_a_folder_with_something_else_is_refused(tmp_path, name):
    photograph(tmp_path / "holiday/beach.jpg")
    with pytest.raises(DatasetLayoutError, match=r"are not here"):
        DATA[name].find(tmp_path)


def test_a_folder_too_deep_says_which_would_be_right(tmp_path):
    isic(tmp_path)
    deep = tmp_path / "ISIC2018_Task1-2_Training_Input"
    with pytest.raises(DatasetLayoutError, match=rf"they are in {tmp_path}, name that"):
        prepared("isic2018", deep, tmp_path / "home")


def test_a_mask_of_another_size_is_named(tmp_path):
    isic(tmp_path)
    path = mask(
        tmp_path / "ISIC2018_Task1_Training_GroundTruth/ISIC_0000001_segmentation.png", width=31
    )
    with pytest.raises(BadImageError, match=rf"{path}: mask of 31x20 for an image of 30x20"):
        DATA["isic2018"].read(DATA["isic2018"].find(tmp_path).entries[0])
