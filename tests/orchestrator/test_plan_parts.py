"""The parts of a target in a plan: in numbers, and refused where they would fail or say nothing."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from orchestrator.errors import InputError
from orchestrator.plan.data_parts import (
    TargetParts,
    data_warnings,
    parts_by_run,
    parts_line,
    require_parts,
)
from orchestrator.plan.plan import load_plan
from tests.command_line import hdsweep
from tests.documents import document
from trainables.data.datasets import all_datasets
from trainables.data.feeding.splits import split_target
from trainables.data.own.describe import describe
from trainables.data.own.imported import info_of
from trainables.data.prepare import prepare
from trainables.data.prepared import find_prepared, folder_of

STUDY = """
title = "a pair"
seeds = [0]
methods = ["scratch_adm", "diffusion_ledm", "supervised_ft"]
[sources.{source}]
targets = ["{target}"]
[data]
image_size = 16
[networks.adm]
channels = 32
multipliers = [1, 1]
blocks_per_level = 1
attention_rates = []
head_channels = 32
[fine_tuning]
train_images = {train}
[ledm]
train_images = {train}
blocks = [0]
"""


def own(root, name, shown, *, train=(), names=("ground", "red", "green")):
    """Import a dataset whose images show these classes, and return its home."""
    for number, classes in enumerate(shown):
        labels = np.zeros((16, 16), np.uint8)
        for label in classes:
            labels[4 * label : 4 * label + 4] = label
        for kind, array in (
            ("images", np.repeat(labels[..., None] * 60, 3, 2)),
            ("masks", labels),
        ):
            path = root / name / kind / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    listed = root / name / "classes.txt"
    listed.write_text("\n".join(names))
    if train:
        (root / name / "train.txt").write_text("\n".join(f"{number:02}" for number in train))
    told = describe(
        *(name, root / name / "images", root / name / "masks", listed),
        train=root / name / "train.txt" if train else None,
        encoding="ids",
    )
    (root / "home/datasets").mkdir(parents=True, exist_ok=True)
    (root / f"home/datasets/{name}.json").write_text(told.model_dump_json())
    prepare(info_of(told), root, root / "home", image_size=16)
    return root / "home"


def planned(root, *, target, train=4, source="isic2018"):
    study = root / "study.toml"
    study.write_text(STUDY.format(source=source, target=target, train=train))
    return load_plan(str(study), home=root / "home")


def only(found):
    (one,) = set(found.values())
    return one


ALL = (1, 2)


def test_parts_are_those_that_training_will_have(tmp_path):
    home = own(tmp_path, "mine", [ALL] * 15)
    found = only(parts_by_run(planned(tmp_path, target="mine")))
    assert found == TargetParts("mine", train=4, val=5, test=6, unused=0)
    # As the run itself divides it.
    info = find_prepared(home, describe_again(tmp_path), 16)
    split = split_target([f"{i:02}" for i in range(15)], [""] * 15, train_images=4, split_seed=0)
    assert info.images == sum(map(len, split))
    assert [found.train, found.val, found.test] == [*map(len, split)]


def describe_again(root):
    from trainables.data.own.imported import imported_datasets

    return imported_datasets(root / "home")["mine"]


def test_listed_images_beyond_those_trained_on_are_said_to_be_unused(tmp_path):
    own(tmp_path, "mine", [ALL] * 12, train=range(6))
    plan = planned(tmp_path, target="mine")
    assert only(parts_by_run(plan)) == TargetParts("mine", train=4, val=3, test=3, unused=2)
    assert "mine 4/3/3 (2 for training unused)" in parts_line(plan)
    study = tmp_path / "study.toml"
    out, _ = hdsweep("plan", study, home=tmp_path / "home")
    assert "4/3/3 (2 for training unused)" in " ".join(out.split())
    out, _ = hdsweep("plan", study, "--json", home=tmp_path / "home")
    parts = [each["parts"] for each in document(out)["runs"]]
    assert {"train": 4, "val": 3, "test": 3, "unused": 2} in parts
    assert parts.count(None) == 2  # The pretrainings.


def test_fewer_listed_images_than_are_trained_on_are_refused_when_planning(tmp_path):
    own(tmp_path, "mine", [ALL] * 12, train=range(3))
    planned(tmp_path, target="mine")  # Which status and report need, whatever it says.
    for verb in ("plan", "run"):
        _, err = hdsweep(verb, tmp_path / "study.toml", home=tmp_path / "home", exit_code=2)
        assert "target `mine`: 4 training images" in err
        assert "but 3 can be trained on and 9 are left" in err
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ([ALL] * 4 + [(1,)] * 8, "no pixel of green in its test part"),
        ([(2,)] * 4 + [ALL] * 8, "no pixel of red in its training part"),
        ([()] * 12, "no pixel of red, green in its training part"),
    ],
)
def test_a_class_without_a_pixel_in_training_or_test_is_refused(tmp_path, shown, told):
    own(tmp_path, "mine", shown, train=range(4))
    with pytest.raises(InputError) as caught:
        require_parts(planned(tmp_path, target="mine"))
    assert f"target `mine`: {told}" in str(caught.value)
    _, err = hdsweep("plan", tmp_path / "study.toml", home=tmp_path / "home", exit_code=2)
    assert told in err


def test_a_class_that_only_validation_lacks_is_no_reason(tmp_path):
    ids, splits = [f"{i:02}" for i in range(12)], ["train"] * 4 + ["test"] * 8
    val = split_target(ids, splits, train_images=4, split_seed=0).val
    own(tmp_path, "mine", [(1,) if i in val else ALL for i in range(12)], train=range(4))
    require_parts(planned(tmp_path, target="mine"))


def test_a_release_of_several_classes_is_warned_of_and_not_refused(tmp_path):
    root = tmp_path / "ffhq_34/real"
    for part in ("train", "test"):
        (root / part).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(root / f"{part}/{number:02}.png")
            labels = np.arange(256, dtype=np.uint8).reshape(16, 16) % 34
            labels[labels == 20] = 0 if part == "test" else 20
            np.save(root / f"{part}/{number:02}.npy", labels)
    prepare(all_datasets()["ffhq34"], tmp_path, tmp_path / "home", image_size=16)
    plan = planned(tmp_path, target="ffhq34", source="celebamask_hq", train=8)
    require_parts(plan)
    assert only(parts_by_run(plan)).record() == {"train": 8, "val": 10, "test": 10, "unused": 12}
    (warning,) = data_warnings(plan)
    assert "ffhq34: no pixel of head***moustache in its test part; miou_ledm counts" in warning


@pytest.mark.parametrize(
    ("target", "train", "expected"),
    [
        ("ph2", 20, (20, 90, 90, 0)),
        ("dermis", 20, (20, 24, 25, 0)),
        ("ffhq34", 8, (8, 10, 10, 12)),
    ],
)
def test_parts_of_what_is_not_prepared_yet_are_those_of_the_release(
    tmp_path, target, train, expected
):
    plan = planned(tmp_path, target=target, train=train)
    assert tuple(only(parts_by_run(plan)).record().values()) == expected


@pytest.mark.parametrize("source", ["shenzhen", "isic2018"])
def test_a_target_that_is_preprocessed_otherwise_than_its_source_is_warned_of(tmp_path, source):
    own(tmp_path, "mine", [ALL] * 12)
    plan = planned(tmp_path, target="mine", source=source)
    told = list(data_warnings(plan))
    assert bool(told) == (source == "shenzhen")
    if told:
        assert told[0].startswith(
            "shenzhen -> mine: the images of shenzhen are equalised, those of"
        )
        out, _ = hdsweep("plan", tmp_path / "study.toml", home=tmp_path / "home")
        assert "look at: shenzhen -> mine" in out


def test_a_home_from_before_contents_were_noted_still_plans(tmp_path):
    home = own(tmp_path, "mine", [()] * 12)
    folder = folder_of(home, describe_again(tmp_path), 16)
    (folder / "contents.json").unlink()
    require_parts(planned(tmp_path, target="mine"))


def test_planning_with_prepared_data_imports_no_torch_ray_mlflow_or_arrow(tmp_path):
    own(tmp_path, "mine", [ALL] * 12)
    planned(tmp_path, target="mine")
    code = (
        "import sys, pathlib; from orchestrator.plan.plan import load_plan;"
        "from orchestrator.plan.data_parts import require_parts;"
        f"require_parts(load_plan({str(tmp_path / 'study.toml')!r}, home=pathlib.Path("
        f"{str(tmp_path / 'home')!r})));"
        "print({'torch', 'ray', 'mlflow', 'pyarrow', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
