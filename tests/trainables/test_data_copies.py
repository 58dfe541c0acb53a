"""Two files for one id: refused with both names unless they are the same, in every release.

The loaders' own small releases are those of `test_data_alignment`; here each image, and each mask, is
given a second file, as a copy in another folder or under another ending.
"""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.trainables.test_data_alignment import RELEASES
from trainables.data.datasets import all_datasets
from trainables.data.errors import BadReleaseError, DatasetLayoutError
from trainables.data.prepare import How, prepare
from trainables.data.releases.release import one_each

DATA = all_datasets()
SIZE = (18, 18)

# A second file for an image, and for a mask, of each release: what it is called beside the first.
TWINS = {
    "isic2018": [("Training_Input/ISIC_0000001.png", "Training_Input/ISIC_0000001.jpg")],
    "ph2": [
        ("IMD001/a/IMD001.bmp", "IMD001/a/IMD001.png"),
        ("IMD001/a/IMD001.bmp", "copy/IMD001/a/IMD001.bmp"),
        ("IMD001/b/IMD001_lesion.bmp", "IMD001/b/IMD001_lesion.png"),
    ],
    "dermis": [
        ("melanoma/dermis/01_orig.png", "melanoma/dermis/01_orig.jpg"),
        ("melanoma/dermis/01_orig.png", "copy/melanoma/dermIS/01_orig.png"),
        ("melanoma/dermis/01_contour.png", "melanoma/dermis/01_contour.bmp"),
    ],
    "celebamask_hq": [
        ("CelebA-HQ-img/1.png", "CelebA-HQ-img/1.jpg"),
        ("CelebA-HQ-img/1.png", "CelebA-HQ-img/00001.png"),
        (
            "CelebAMask-HQ-mask-anno/0/00001_skin.png",
            "copy/CelebAMask-HQ-mask-anno/0/00001_skin.png",
        ),
    ],
    "ffhq34": [
        ("ffhq_34/real/test/01.png", "ffhq_34/real/test/01.jpg"),
        ("ffhq_34/real/test/01.npy", "ffhq_34/real/test/copy/01.npy"),
    ],
}
CASES = [(name, *twin) for name, twins in TWINS.items() for twin in twins]


def other(path):
    """Write another picture of the same size to a path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(0).integers(0, 2, SIZE).astype(np.uint8)
    if path.suffix == ".npy":
        np.save(path, levels)
    else:
        Image.fromarray(levels * 255).save(path)


@pytest.mark.parametrize(("name", "first", "second"), CASES)
def test_two_files_for_one_id_are_both_named(name, first, second, tmp_path):
    release = tmp_path / "release"
    RELEASES[name](release, *SIZE)
    whole = len(DATA[name].find(release).entries)
    other(release / second)
    with pytest.raises(BadReleaseError) as caught:
        prepare(DATA[name], release, tmp_path / "home", image_size=16, how=How(strict=False))
    told = [problem for problem in caught.value.problems if "is another file than" in problem]
    assert len(told) == 1
    assert str(release / first) in told[0]
    assert str(release / second) in told[0]
    assert len(caught.value.problems) == 1
    # Left out if it is asked for, rather than chosen between.
    skipped = How(strict=False, skip_bad=True)
    left = prepare(DATA[name], release, tmp_path / "home", image_size=16, how=skipped)
    assert (left.images, left.found) == (whole - 1, whole)


@pytest.mark.parametrize(("name", "first", "second"), CASES)
def test_the_same_file_twice_is_that_file(name, first, second, tmp_path):
    release = tmp_path / "release"
    RELEASES[name](release, *SIZE)
    before = DATA[name].find(release)
    (release / second).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(release / first, release / second)
    after = DATA[name].find(release)
    assert not after.problems
    assert [entry.id for entry in after.entries] == [entry.id for entry in before.entries]


def test_the_first_of_two_files_is_taken_whatever_a_folder_lists_first(tmp_path, monkeypatch):
    RELEASES["ph2"](tmp_path, *SIZE)
    shutil.copy(tmp_path / "IMD001/a/IMD001.bmp", tmp_path / "IMD001/a/IMD001.png")
    walk = os.walk
    found = []
    for backwards in (False, True):

        def listed(root, backwards=backwards, **options):
            for folder, below, names in walk(root, **options):
                yield folder, below, sorted(names, reverse=backwards)

        monkeypatch.setattr(os, "walk", listed)
        found.append(DATA["ph2"].find(tmp_path))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["dermis", "ph2"])
def test_images_of_one_copy_are_not_laid_beside_masks_of_another(name, tmp_path):
    for copy in ("a", "b"):
        RELEASES[name](tmp_path / copy, *SIZE)
    image = {"dermis": "melanoma/dermis/01_orig.png", "ph2": "IMD001/a/IMD001.bmp"}[name]
    mask = {"dermis": "melanoma/dermis/01_contour.png", "ph2": "IMD001/b/IMD001_lesion.bmp"}[name]
    (tmp_path / "b" / image).unlink()
    (tmp_path / "a" / mask).unlink()
    (problem,) = DATA[name].find(tmp_path).problems
    assert problem == (
        f"{tmp_path}/b/{mask}: belongs to another copy than {tmp_path}/a/{image}; name one copy"
    )


def test_parts_of_one_portrait_are_not_of_two_copies(tmp_path):
    RELEASES["celebamask_hq"](tmp_path, *SIZE)
    parts = tmp_path / "CelebAMask-HQ-mask-anno/0"
    away = tmp_path / "copy/CelebAMask-HQ-mask-anno/0"
    away.mkdir(parents=True)
    shutil.copy(parts / "00001_skin.png", away / "00001_hair.png")
    (problem,) = DATA["celebamask_hq"].find(tmp_path).problems
    assert "as parts of two copies do" in problem


def test_two_whole_copies_of_a_release_in_one_folder_each_are_in_several_places(tmp_path):
    for copy in ("a", "b"):
        RELEASES["nih"](tmp_path / copy, *SIZE)
    with pytest.raises(DatasetLayoutError, match="several places, name one"):
        DATA["nih"].find(tmp_path)


def test_a_file_that_cannot_be_read_is_not_taken_for_the_same(tmp_path):
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").symlink_to(tmp_path / "nowhere")
    found = one_each([("id", tmp_path / "a"), ("id", tmp_path / "b"), ("one", tmp_path / "a")])
    assert dict(found) == {"one": tmp_path / "a"}
    assert list(found.unclear) == ["id"]
