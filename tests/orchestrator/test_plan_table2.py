"""The plan of table2: how many runs, which keys they share, and what may move a key."""

import subprocess
import sys
from collections import Counter

import pytest

from orchestrator.errors import InputError
from orchestrator.plan.plan import Cell, load_plan, require_ready


@pytest.fixture(scope="module")
def paper():
    return load_plan("table2")


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


def study_of(
    tmp_path, *, methods='["hybrid_ft"]', targets='["ph2"]', seeds="[0]", more="", paper=""
):
    return write(
        tmp_path,
        f'{paper}title = "Mine"\nmethods = {methods}\nseeds = {seeds}\n'
        f"[sources.isic2018]\ntargets = {targets}\n{more}",
    )


def keys(plan):
    return {run.key for run in plan.runs}


@pytest.mark.parametrize(
    ("methods", "fine_tunings", "pretrainings"),
    # Nine and two methods on five targets with three seeds. The baselines do without the hybrid
    # pretraining of each of the three sources.
    [("baselines", 135, 12), ("hybrid", 30, 3), ("all", 165, 15), (None, 165, 15)],
)
def test_counts(methods, fine_tunings, pretrainings):
    plan = load_plan("table2", methods=methods)
    assert Counter(run.spec.stage for run in plan.runs) == {
        "fine-tuning": fine_tunings,
        "pretraining": pretrainings,
    }
    assert len(keys(plan)) == fine_tunings + pretrainings
    assert len(plan.table) == fine_tunings


def test_each_pretraining_unlocks_what_the_paper_says(paper):
    # Diffusion, supervised ADM and hybrid: 2 methods x 2 targets x 3 seeds = 12, CelebA 6;
    # DeepLab and SegFormer half of that; three methods need none: 3 x 5 x 3 = 45.
    fan_out = Counter(run.needs for run in paper.runs if run.target)
    assert fan_out.pop(None) == 45
    assert sorted(fan_out.values()) == sorted(2 * 3 * [12] + 3 * [6] + 2 * 2 * [6] + 2 * [3])


def test_pretrainings_come_first_and_before_what_needs_them(paper):
    position = {run.key: i for i, run in enumerate(paper.runs)}
    assert all(run.needs is None or position[run.needs] < position[run.key] for run in paper.runs)
    assert all(run.pretraining for run in paper.runs[:15])


def test_labels_are_unique_and_readable(paper):
    labels = [run.label for run in paper.runs]
    assert len(set(labels)) == 180
    assert "pretrain hybrid isic2018" in labels
    assert "pretrain supervised deeplab shenzhen" in labels
    assert "hybrid_ft ph2 seed 1" in labels


def test_celeba_is_trained_longer_than_the_other_sources(paper):
    updates = {run.source: run.spec.training.updates for run in paper.runs if run.pretraining}
    assert updates == {"isic2018": 40_000, "shenzhen": 40_000, "celebamask_hq": 90_000}


def test_a_fine_tuning_says_what_it_starts_from(paper):
    run = paper.by_key[paper.table[Cell("hybrid_ft", "ffhq34", 2)]]
    start = paper.by_key[run.needs]
    assert run.spec.pretrained.key == start.key == start.spec.key
    assert (run.spec.pretrained.task, run.spec.pretrained.classes) == ("hybrid", 19)
    assert (run.spec.dataset.classes, run.spec.seed, run.source) == (34, 2, "celebamask_hq")


def test_methods_meet_the_same_split_and_seeds(paper):
    runs = [paper.by_key[key] for cell, key in paper.table.items() if cell.target == "nih"]
    assert {run.spec.training.split_seed for run in runs} == {0}
    assert {run.spec.training.train_images for run in runs} == {20}
    seeds = Counter((run.methods[0], run.spec.seed) for run in runs)
    assert len(seeds) == 33
    assert {run.seed == run.spec.seed for run in runs} == {True}


@pytest.mark.parametrize(
    "change",
    [
        {"methods": '["hybrid_ft", "diffusion_ft", "i1k_deeplab"]'},
        {"targets": '["ph2", "dermis"]'},
        {"seeds": "[0, 1, 7]"},
    ],
)
def test_adding_leaves_every_existing_key_as_it_was(tmp_path, change):
    before = keys(load_plan(study_of(tmp_path)))
    after = keys(load_plan(study_of(tmp_path, **change)))
    assert before < after


def test_a_study_of_ones_own_shares_its_runs_with_table2(tmp_path, paper):
    assert keys(load_plan(study_of(tmp_path))) < keys(paper)


def test_lambda_moves_the_hybrid_runs_and_no_other(paper):
    changed = load_plan("table2", overrides=["pretraining.mask_weight=1e-3"])
    moved = [run for run in changed.runs if run.key not in keys(paper)]
    assert {name for run in moved for name in run.methods} == {"hybrid_ft", "hybrid_ledm"}
    assert len(moved) == 3 + 30


def test_a_backbone_moves_only_its_own_family(paper):
    changed = load_plan("table2", overrides=["networks.deeplab.backbone=random"])
    moved = [run for run in changed.runs if run.key not in keys(paper)]
    assert {run.spec.network.family for run in moved} == {"deeplab"}
    assert changed.without_imagenet
    assert not changed.comparable


def test_an_override_of_one_method_gives_it_a_pretraining_of_its_own(tmp_path):
    more = "[overrides.hybrid_ft.pretraining]\nmask_weight = 1e-3\n"
    plan = load_plan(study_of(tmp_path, methods='"hybrid"', more=more))
    starts = {run.label: run.spec.training.mask_weight for run in plan.runs if run.pretraining}
    assert starts == {
        "pretrain hybrid isic2018 for hybrid_ledm": 1e-4,
        "pretrain hybrid isic2018 for hybrid_ft": 1e-3,
    }


def test_an_override_of_one_target_leaves_the_others(tmp_path):
    more = "[targets.ph2.fine_tuning]\nbatch = 4\n"
    plan = load_plan(study_of(tmp_path, targets='["ph2", "dermis"]', more=more))
    batches = {run.target: run.spec.training.batch for run in plan.runs if run.target}
    assert batches == {"ph2": 4, "dermis": 12}


def test_set_overrules_the_scale_and_the_scale_the_study():
    plan = load_plan("table2", scale="demo", methods="hybrid_ft", targets="ffhq34")
    demo = plan.runs[0].spec.training
    assert demo.updates < 90_000
    overruled = load_plan("table2", scale="demo", overrides=[f"pretraining.updates={9}"])
    assert overruled.runs[0].spec.training.updates == 9


def test_what_the_scale_overrules_is_told():
    assert load_plan("table2").notes == ()
    (note,) = load_plan("table2", scale="smoke").notes
    assert "pretraining.updates = 2, which overrules 90000" in note
    assert "[sources.celebamask_hq]" in note


def test_micro_batches_are_for_the_adm_alone(paper):
    sizes = {(run.spec.network.family, run.spec.training.micro_batch) for run in paper.runs[:15]}
    assert sizes == {("adm", 16), ("deeplab", None), ("segformer", None)}


@pytest.mark.parametrize("scale", ["demo", "smoke"])
def test_small_scales_plan_all_runs_on_stand_ins_without_imagenet(scale):
    plan = load_plan("table2", scale=scale)
    assert len(plan.runs) == 180
    assert plan.generated
    assert plan.without_imagenet
    names = {run.source if run.pretraining else run.target: run.spec.dataset for run in plan.runs}
    assert {data.name for data in names.values()} == {f"{name}-like" for name in names}
    assert len(names) == 8
    assert plan.targets == ("ph2", "dermis", "nih", "montgomery", "ffhq34")
    assert not any(run.needs_backbone for run in plan.runs)


def test_the_paper_scale_is_comparable_and_small_ones_say_why_not(paper):
    assert paper.comparable
    assert "generated images" in load_plan("table2", scale="demo").not_comparable


@pytest.mark.parametrize(
    "flag", ["compute.threads=4", "pretraining.log_every=10", "compute.precision=fp32"]
)
def test_what_changes_no_result_leaves_the_plan_comparable(flag):
    assert load_plan("table2", overrides=[flag]).comparable


def test_a_changed_learning_rate_is_not_comparable_and_named():
    plan = load_plan("table2", overrides=["fine_tuning.optimizer.lr=1e-4"])
    assert plan.not_comparable == ("fine_tuning.optimizer.lr 0.0002 -> 0.0001",)


def test_a_pair_that_the_paper_has_not_is_not_comparable(tmp_path):
    path = study_of(tmp_path, targets='["nih"]', paper='paper = "arXiv:2408.03433"\n')
    assert load_plan(path).not_comparable == (
        "hybrid_ft pretrained on isic2018 on nih is not in the paper",
    )


def test_filters_keep_the_order_of_the_study():
    plan = load_plan("table2", methods="hybrid_ft, scratch_adm", targets="nih,ph2", seeds="2,0")
    assert plan.methods == ("scratch_adm", "hybrid_ft")
    assert plan.targets == ("ph2", "nih")
    assert plan.seeds == (0, 2)
    assert len(plan.runs) == 2 + 2 * 2 * 2


@pytest.mark.parametrize(
    ("filters", "what"),
    [
        ({"methods": "hybridft"}, "did you mean `hybrid_ft`"),
        ({"methods": "baseline"}, "did you mean `baselines`"),
        ({"targets": "ph3"}, "did you mean `ph2`"),
        ({"targets": "isic2018"}, "study `table2` has no target `isic2018`"),
        ({"seeds": "0,7"}, "study `table2` has no seed `7`"),
        ({"seeds": ","}, "names no seed"),
    ],
)
def test_a_filter_that_matches_nothing_is_refused(filters, what):
    with pytest.raises(InputError, match=what):
        load_plan("table2", **filters)


@pytest.mark.parametrize(
    ("flag", "what"),
    [
        ("data.image_size=100", "cannot be halved 5 times"),
        ("networks.adm.channels=48", "not all multiples of 32"),
        ("networks.adm.attention_rates=[3]", r"attention_rates has 3"),
        ("networks.adm.head_channels=96", "does not divide a level of"),
        ("ledm.blocks=[5, 18]", "decoder blocks 0 to 17"),
        ("fine_tuning.train_images=39", "leaves fewer than 2 of its 40"),
        ("networks.deeplab.blocks=[1, 1, 1, 1]", "has no ImageNet weights"),
    ],
)
def test_settings_that_cannot_work_are_refused_while_planning(flag, what):
    with pytest.raises(InputError, match=what):
        load_plan("table2", overrides=[flag])


def test_what_is_missing_is_named_in_one_line(paper):
    with pytest.raises(InputError) as caught:
        require_ready(paper)
    first, hint = str(caught.value).split("\n\n")
    for name in ("isic2018", "ffhq34", "resnet50", "mit_b3"):
        assert name in first
    assert hint.startswith("hint: ")


def test_planning_imports_no_heavy_library_and_is_quick():
    code = (
        "import time; start = time.perf_counter()\n"
        "import sys, orchestrator.plan.plan, orchestrator.plan.why, orchestrator.plan.cost.forecast\n"
        "plan = orchestrator.plan.plan.load_plan('table2')\n"
        "orchestrator.plan.why.reasons(plan); orchestrator.plan.cost.forecast.forecast(plan)\n"
        "heavy = {'torch', 'ray', 'mlflow', 'numpy', 'PIL', 'pyarrow'} & set(sys.modules)\n"
        "print(sorted(heavy), len(plan.runs))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[] 180"
