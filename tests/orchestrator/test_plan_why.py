"""Why a run runs: the sentence for each state of the store."""

import pytest

from orchestrator.plan.plan import Cell, load_plan
from orchestrator.plan.why import reasons

CELL = Cell("hybrid_ft", "ph2", 1)


def plan_with(*flags):
    return load_plan("table2", methods="hybrid_ft,scratch_adm", targets="ph2", overrides=flags)


def stored(plan):
    return [run.spec.model_dump(mode="json") for run in plan.runs]


@pytest.fixture
def plan():
    return plan_with()


def test_on_an_empty_store_runs_are_new_or_wait(plan):
    why = reasons(plan)
    assert why[plan.table[Cell("scratch_adm", "ph2", 0)]].text == "new"
    assert why[plan.runs[0].key].text == "new"
    assert why[plan.table[CELL]].text == "waits for pretrain hybrid isic2018"


def test_what_is_stored_is_reused_and_unlocks(plan):
    pretraining = plan.runs[0].key
    why = reasons(plan, finished={pretraining})
    assert why[pretraining].kind == "reused"
    assert why[plan.table[CELL]].text == "new"


def test_a_failure_is_told_with_its_cause(plan):
    key = plan.table[CELL]
    why = reasons(plan, failures={key: "loss is not finite at update 7"})
    assert why[key].text == "failed before: loss is not finite at update 7"


def test_a_changed_setting_is_told_with_both_values(plan):
    changed = plan_with("fine_tuning.optimizer.lr=1e-4")
    why = reasons(changed, finished={run.key for run in plan.runs}, past=stored(plan))
    text = why[changed.table[CELL]].text
    assert text == "changed: fine_tuning.optimizer.lr 0.0002 -> 0.0001"
    assert why[changed.runs[0].key].text == "reused"


def test_a_changed_pretraining_is_told_to_what_starts_from_it(plan):
    changed = plan_with("pretraining.mask_weight=1e-3")
    why = reasons(changed, past=stored(plan))
    assert why[changed.runs[0].key].text == "changed: pretraining.mask_weight 0.0001 -> 0.001"
    assert why[changed.table[CELL]].text == "changed: its pretraining"


def test_the_most_similar_stored_run_is_the_one_compared_with(plan):
    far = plan_with("ledm.lr=0.1", "fine_tuning.optimizer.lr=3e-4", "fine_tuning.batch=4")
    changed = plan_with("fine_tuning.patience=30")
    why = reasons(changed, past=[*stored(far), *stored(plan)])
    assert why[changed.table[CELL]].text == "changed: fine_tuning.patience 20 -> 30"


def test_another_scale_is_not_a_change(plan):
    demo = load_plan("table2", scale="demo", methods="scratch_adm", targets="ph2")
    why = reasons(plan, past=stored(demo))
    assert why[plan.table[Cell("scratch_adm", "ph2", 0)]].text == "new"


def test_new_images_are_told_in_words(plan):
    past = stored(plan)
    for spec in past:
        spec["dataset"]["fingerprint"] = "0" * 64
    why = reasons(plan, past=past)
    assert why[plan.runs[0].key].text == "changed: the images of its dataset"
