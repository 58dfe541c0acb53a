"""The datasets as data: what planning needs, and what it must not import."""

import subprocess
import sys

import pytest

from trainables.data.datasets import all_datasets

DATA = all_datasets()

# method.md 6: images, classes, augmentation and metric of each set.
PUBLISHED = {
    "isic2018": (2594, 2, "flips", "jaccard", "source"),
    "shenzhen": (566, 2, "border_crop", "jaccard", "source"),
    "celebamask_hq": (30_000, 19, "none", "miou_ledm", "source"),
    "dermis": (69, 2, "none", "jaccard", "target"),
    "ph2": (200, 2, "none", "jaccard", "target"),
    "nih": (100, 2, "none", "jaccard", "target"),
    "montgomery": (138, 2, "none", "jaccard", "target"),
    "ffhq34": (40, 34, "none", "miou_ledm", "target"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_datasets_are_those_of_the_paper(name):
    info = DATA[name]
    found = (info.expected, len(info.classes), info.augmentation, info.metric, info.role)
    assert found == PUBLISHED[name]


def test_there_is_one_stand_in_for_each_and_nothing_else():
    assert list(DATA) == sorted([*PUBLISHED, *(f"{name}-like" for name in PUBLISHED)])


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_stand_in_is_used_as_the_real_one_and_says_that_it_is_none(name):
    real, other = DATA[name], DATA[f"{name}-like"]
    assert (other.role, other.metric, other.augmentation) == (
        real.role,
        real.metric,
        real.augmentation,
    )
    assert (real.generated, other.generated) == (False, True)
    assert other.title == f"{real.title}-like"


@pytest.mark.parametrize("name", DATA)
def test_class_names_are_unique(name):
    assert len(set(DATA[name].classes)) == len(DATA[name].classes)


@pytest.mark.parametrize(("name", "side"), [("shenzhen", 448), ("montgomery", 256)])
def test_only_cropped_sets_are_stored_larger_than_networks_see_them(name, side):
    assert DATA[name].stored_side(256) == side


def test_planning_imports_no_numpy_arrow_or_pillow():
    code = (
        "import sys, pathlib; from trainables.data import datasets, prepared;"
        "datasets.known_datasets(pathlib.Path('/nowhere')); prepared.find_prepared;"
        "print(sorted({'numpy', 'pyarrow', 'PIL', 'torch'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"
