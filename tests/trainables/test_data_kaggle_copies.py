"""Copies of releases in the layouts that people have them: flat X-rays, label maps merged by parts."""

import numpy as np
import pytest
from PIL import Image

from trainables.data.datasets import all_datasets
from trainables.data.datasets.celebamask_hq import PARTS
from trainables.data.errors import BadImageError, DatasetLayoutError

DATA = all_datasets()


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.mark.parametrize("suffix", ["", "_mask"])
@pytest.mark.parametrize(("name", "stem"), [("montgomery", "MCUCXR"), ("shenzhen", "CHNCXR")])
def test_flat_copies_of_x_rays_are_found(tmp_path, name, stem, suffix):
    for i in (1, 2):
        write(tmp_path / f"cxr/{stem}_{i:04}_0.png", np.full((4, 4), 9 * i, np.uint8))
        write(tmp_path / f"masks/{stem}_{i:04}_0{suffix}.png", np.full((4, 4), 255, np.uint8))
    found = DATA[name].find(tmp_path)
    assert [entry.id for entry in found.entries] == [f"{stem}_0001_0", f"{stem}_0002_0"]
    assert not found.problems
    _, labels = DATA[name].read(found.entries[0])
    assert (labels == 1).all()


@pytest.fixture
def merged(tmp_path):
    maps = {}
    for i in (0, 7):
        write(tmp_path / f"CelebA-HQ-img/{i}.jpg", np.full((8, 8, 3), 9, np.uint8))
        maps[f"{i:05}"] = np.random.default_rng(i).integers(0, 19, (4, 4)).astype(np.uint8)
        write(tmp_path / f"CelebAMaskHQ-mask/{i}.png", maps[f"{i:05}"])
    return maps


def test_merged_maps_are_those_that_the_parts_make(tmp_path, merged):
    celeba = DATA["celebamask_hq"]
    found = celeba.find(tmp_path)
    assert [entry.id for entry in found.entries] == list(merged)
    for entry in found.entries:
        image, labels = celeba.read(entry)
        assert image.shape == (8, 8, 3)
        np.testing.assert_array_equal(labels, merged[entry.id])
    parts = tmp_path / "parts"
    for name, labels in merged.items():
        write(parts / f"CelebA-HQ-img/{int(name)}.jpg", np.full((8, 8, 3), 9, np.uint8))
        for label in range(1, 19):
            inside = np.where(labels == label, 255, 0).astype(np.uint8)
            write(parts / f"CelebAMask-HQ-mask-anno/0/{name}_{PARTS[label - 1]}.png", inside)
    for entry in celeba.find(parts).entries:
        np.testing.assert_array_equal(celeba.read(entry)[1], merged[entry.id])


def test_merged_maps_of_other_programs_are_not_taken_for_them(tmp_path, merged):
    (tmp_path / "CelebAMaskHQ-mask").rename(tmp_path / "mask")
    found = DATA["celebamask_hq"].find(tmp_path)
    assert not found.entries
    assert "has no mask of any part" in found.problems[0]


def test_a_merged_map_has_the_labels_of_the_parts_only(tmp_path, merged):
    write(tmp_path / "CelebAMaskHQ-mask/0.png", np.full((4, 4), 19, np.uint8))
    celeba = DATA["celebamask_hq"]
    with pytest.raises(BadImageError, match=r"0\.png: label 19, but the parts are 1 to 18"):
        celeba.read(celeba.find(tmp_path).entries[0])


def test_several_folders_of_which_none_is_for_training_are_several_places(tmp_path):
    for copy in ("a", "b"):
        write(tmp_path / copy / "ISIC_0000001.jpg", np.zeros((4, 4, 3), np.uint8))
        write(tmp_path / copy / "ISIC_0000001_segmentation.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(DatasetLayoutError, match="in several places, name one"):
        DATA["isic2018"].find(tmp_path)
