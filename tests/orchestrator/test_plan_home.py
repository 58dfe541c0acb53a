"""What lies in the home folder decides fingerprints, checksums, and whether a plan can run."""

import hashlib

import pytest

from orchestrator.errors import InputError
from orchestrator.plan.plan import load_plan, require_ready
from trainables.data.datasets import all_datasets
from trainables.data.prepare import prepare

FLAGS = ["data.image_size=16", "data.source_images=24", "data.target_images=26"]


def plan_at(home, **choice):
    choice = {"methods": "hybrid_ft", "targets": "ph2", "overrides": FLAGS, **choice}
    return load_plan("table2", scale="smoke", home=home, **choice)


@pytest.fixture
def home(tmp_path):
    for name, images in (("isic2018-like", 24), ("ph2-like", 26)):
        prepare(all_datasets()[name], None, tmp_path, image_size=16, images=images)
    return tmp_path


def test_prepared_data_are_in_the_specs_and_the_plan_is_ready(home):
    plan = plan_at(home)
    require_ready(plan)
    for run in plan.runs:
        assert len(run.spec.dataset.fingerprint) == 64
        assert (run.dataset_folder / "dataset.json").is_file()


def test_planning_without_data_gives_other_keys_and_names_what_is_missing(home, tmp_path):
    without = plan_at(tmp_path / "empty")
    assert {run.spec.dataset.fingerprint for run in without.runs} == {"unprepared"}
    assert not {run.key for run in without.runs} & {run.key for run in plan_at(home).runs}
    with pytest.raises(InputError, match="the prepared datasets isic2018-like, ph2-like"):
        require_ready(without)


def test_a_stand_in_made_for_another_scale_is_not_prepared_for_this_one(home):
    flags = [*FLAGS[:2], "data.target_images=40"]
    plan = plan_at(home, overrides=flags)
    prepared = {each.name: each.prepared for each in plan.datasets}
    assert prepared == {"isic2018": True, "ph2": False}
    assert {each.name: each.images for each in plan.datasets} == {"isic2018": 24, "ph2": 40}


def test_weights_are_part_of_the_key_by_content(tmp_path):
    file = tmp_path / "weights" / "resnet50.pth"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    choice = {"home": tmp_path, "methods": "i1k_deeplab,i1k_sup_deeplab", "targets": "ph2"}
    first = load_plan("table2", **choice)
    digest = hashlib.sha256(b"weights").hexdigest()
    assert {run.spec.network.backbone_sha256 for run in first.runs} == {digest}
    assert {run.key for run in first.runs} == {r.key for r in load_plan("table2", **choice).runs}
    file.write_bytes(b"other weights")
    second = load_plan("table2", **choice)
    assert not {run.key for run in first.runs} & {run.key for run in second.runs}


def test_only_the_initial_network_loads_imagenet_weights():
    plan = load_plan("table2", methods="i1k_deeplab,i1k_sup_deeplab,hybrid_ft", targets="ph2")
    needs = {run.label: run.needs_backbone for run in plan.runs if run.seed == 0}
    assert needs == {
        "pretrain supervised deeplab isic2018": "resnet50",
        "pretrain hybrid isic2018": None,
        "i1k_deeplab ph2 seed 0": "resnet50",
        "i1k_sup_deeplab ph2 seed 0": None,
        "hybrid_ft ph2 seed 0": None,
    }


def test_the_scales_we_ship_do_not_prepare_their_data_over_each_other():
    # A stand-in lies in the home by its name and side; two scales of one side would take turns.
    sizes = [
        next(iter(load_plan("table2", scale=scale).datasets)).ref.image_size
        for scale in ("paper", "demo", "smoke")
    ]
    assert len(set(sizes)) == 3
