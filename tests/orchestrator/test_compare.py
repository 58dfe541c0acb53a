"""Two stored sweeps held together, in real stores: what differs, by how much, and why."""

import hashlib
import json
import shutil

import pytest

from orchestrator.errors import InputError
from orchestrator.plan.plan import Cell, load_plan
from orchestrator.store.home.home import open_home
from orchestrator.store.store import Store
from orchestrator.verbs.compare import compare, open_side, to_record
from orchestrator.verbs.run import table_of, write_table
from tests.command_line import hdsweep
from tests.documents import document

HERE = {"torch": "2.14.0", "device": "cpu"}
STUDY = """
title = "Two rows of Table 2"
seeds = [0, 1]
methods = ["scratch_adm", "hybrid_ft"]
[sources.isic2018]
targets = ["ph2"]
"""
SAME = {("scratch_adm", 0): 80.0, ("scratch_adm", 1): 81.0, ("hybrid_ft", 0): 82.0}


@pytest.fixture
def swept(tmp_path, empty_database):
    """Return a function that stores a sweep as if it had run, and returns its home."""

    def sweep(name, values, *overrides, scale="smoke", environment=HERE, **changes):
        study = tmp_path / "table2.toml"
        study.write_text(STUDY)
        plan = load_plan(str(study), scale=scale, overrides=overrides, **changes)
        home = open_home(tmp_path / name)
        if not home.exists():
            shutil.copy(empty_database, home.database)
        scores = {
            plan.table[Cell(method, "ph2", seed)]: {"test_jaccard": value}
            for (method, seed), value in values.items()
        }
        with Store.open(home) as store:
            store.begin_sweep(plan)
            for run in plan.runs:
                if run.pretraining or run.key in scores:
                    attempt = store.start(run)
                    fill(attempt, run, scores.get(run.key, {"final_loss": 0.5}), environment)
                    store.commit(run.key, attempt)
            write_table(store, table_of(plan, store), plan)
            store.end_sweep(complete=len(scores) == 4)
        return home.path

    return sweep


def fill(attempt, run, metrics, environment):
    """Leave what a worker leaves, result last."""
    text = run.spec.model_dump_json()
    (attempt.artifacts / "spec.json").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    result = {
        "key": attempt.key,
        "attempt": attempt.number,
        "metrics": metrics,
        "updates": 2,
        "seconds": 1.5,
        "history": [],
        "artifacts": {"spec.json": {"sha256": digest, "bytes": len(text)}},
        "environment": environment,
    }
    (attempt.artifacts / "result.json").write_text(json.dumps(result))


def held(a, b, home="nowhere"):
    return compare(open_side(str(a), home), open_side(str(b), home))


def states(found):
    return {
        (cell.method, seed): pair.state
        for cell in found.cells
        for seed, pair in cell.seeds.items()
    }


def test_the_same_numbers_are_identical_also_where_both_lack_one(swept):
    found = held(swept("a", SAME), swept("b", SAME, environment={**HERE, "torch": "9"}))
    assert found.identical
    assert found.reasons == {}
    assert set(states(found).values()) == {"identical", "neither"}
    assert [cell.difference for cell in found.cells] == [0.0, 0.0]


def test_another_setting_is_named_once_with_the_cells_it_concerns(swept):
    values = {**SAME, ("scratch_adm", 0): 79.5, ("hybrid_ft", 0): 82.0 + 1e-12}
    found = held(swept("a", SAME), swept("b", values, "fine_tuning.optimizer.lr=0.002"))
    assert not found.identical
    assert found.reasons == {
        "fine_tuning.optimizer.lr 0.0002 -> 0.002": ("scratch_adm/ph2", "hybrid_ft/ph2")
    }
    scratch, hybrid = found.cells
    assert scratch.seeds[0].difference == -0.5
    assert scratch.seeds[1].state == "identical"
    assert hybrid.seeds[0].state == "differs"
    # (79.5 + 81) / 2 - (80 + 81) / 2
    assert scratch.difference == pytest.approx(-0.25)


def test_another_pretraining_is_explained_and_not_shown_as_another_key(swept):
    values = {**SAME, ("hybrid_ft", 0): 83.0}
    found = held(swept("a", SAME), swept("b", values, "pretraining.mask_weight=0.5"))
    assert found.reasons == {"pretraining.mask_weight 0.0001 -> 0.5": ("hybrid_ft/ph2",)}


def test_what_pretraining_and_fine_tuning_share_is_named_once(swept):
    values = {**SAME, ("hybrid_ft", 0): 83.0}
    found = held(swept("a", SAME), swept("b", values, "networks.adm.dropout=0.25"))
    assert list(found.reasons) == ["networks.adm.dropout 0.1 -> 0.25"]


def test_the_same_runs_with_other_values_ran_elsewhere(swept):
    gpu = {"torch": "2.15.0", "device": "NVIDIA H200"}
    found = held(swept("a", SAME), swept("b", {**SAME, ("hybrid_ft", 0): 83}, environment=gpu))
    assert found.reasons == {
        f"{of}environment {change}": ("hybrid_ft/ph2",)
        for of in ("", "its pretraining: ")
        for change in ("torch 2.14.0 -> 2.15.0", "device cpu -> NVIDIA H200")
    }


def test_a_difference_without_a_reason_says_so(swept):
    found = held(swept("a", SAME), swept("b", {**SAME, ("scratch_adm", 0): 80.5}))
    assert found.reasons == {
        "same spec, same environment: not deterministic there, or changed since": (
            "scratch_adm/ph2",
        )
    }


def test_what_one_side_lacks_is_named_with_its_reason(swept):
    hybrid = {("hybrid_ft", 0): 82.0, ("hybrid_ft", 1): 83.0}
    found = held(swept("a", SAME), swept("b", hybrid, methods="hybrid_ft"))
    assert not found.identical
    assert states(found) == {
        ("scratch_adm", 0): "only_a",
        ("scratch_adm", 1): "only_a",
        ("hybrid_ft", 0): "identical",
        ("hybrid_ft", 1): "only_b",
    }
    assert found.reasons == {
        "missing in B: not in this sweep": ("scratch_adm/ph2",),
        "missing in A: not run": ("hybrid_ft/ph2",),
    }


def test_a_table_from_before_keys_were_kept_is_compared_all_the_same(swept):
    one, other = swept("a", SAME), swept("b", {**SAME, ("scratch_adm", 0): 80.5})
    (file,) = other.glob("artifacts/*/artifacts/table/table.json")
    table = json.loads(file.read_text())
    for cell in table["cells"]:
        del cell["keys"]
    file.write_text(json.dumps(table))
    (reason,) = held(one, other).reasons
    assert "does not say which runs" in reason


def test_a_run_that_is_gone_is_said_to_be(swept):
    one, other = swept("a", SAME), swept("b", {**SAME, ("scratch_adm", 0): 80.5})
    for file in other.glob("artifacts/*/artifacts/result.json"):
        file.unlink()
    assert list(held(one, other).reasons) == ["a run is not stored any more, or cannot be read"]


def test_two_sweeps_of_one_home(swept):
    home = swept("a", SAME)
    swept("a", {**SAME, ("scratch_adm", 0): 70.0}, scale="demo")
    found = held("table2/smoke", f"{home}:table2/demo", home=home)
    assert (found.a.sweep, found.b.sweep) == ("table2/smoke", "table2/demo")
    assert found.cells[0].seeds[0].difference == -10.0
    assert any(reason.startswith("fine_tuning.max_epochs ") for reason in found.reasons)
    record = to_record(found)
    assert json.loads(json.dumps(record)) == record
    with pytest.raises(InputError) as error:
        open_side(str(home), home)
    assert "holds 2 sweeps" in str(error.value)
    assert f"{home}:table2/demo, {home}:table2/smoke" in str(error.value)


def test_what_means_nothing_stored_is_one_clear_line(swept, tmp_path):
    home = swept("a", SAME)
    for what, message in (
        (f"{home}:table2/smok", "did you mean `table2/smoke`?"),
        ("table2/demo", "unknown sweep `table2/demo`"),
        (str(tmp_path / "none"), "holds no table of a sweep"),
        (f"{tmp_path}:table2/smoke", "holds no table of a sweep"),
    ):
        with pytest.raises(InputError) as error:
            open_side(what, home)
        assert message in str(error.value)
    (file,) = home.glob("artifacts/*/artifacts/table/table.json")
    file.write_text("{")
    with pytest.raises(InputError, match="the stored table of `table2/smoke` cannot be read"):
        open_side("table2/smoke", home)


def test_the_command_shows_cells_seeds_and_reasons(swept):
    one = swept("a", SAME)
    other = swept("b", {**SAME, ("scratch_adm", 1): 81.5}, "fine_tuning.optimizer.lr=0.002")
    before = {path: path.read_bytes() for path in one.rglob("*.json")}
    out, _ = hdsweep("compare", one, other, exit_code=1, COLUMNS="120")
    (row,) = (line.split() for line in out.splitlines() if "scratch_adm" in line)
    wanted = "scratch_adm ph2-like 80.5 ± 0.7 [2] 80.8 ± 1.1 [2] +0.25 0 =, 1 +0.5"
    assert row == wanted.split()
    assert "fine_tuning.optimizer.lr 0.0002 -> 0.002: 2 cells" in out
    assert {path: path.read_bytes() for path in one.rglob("*.json")} == before
    out, _ = hdsweep("compare", one, "table2/smoke", "--json", home=one)
    record = document(out)
    assert record["identical"]
    assert record["cells"][0]["seeds"]["0"]["state"] == "identical"
    _, said = hdsweep("compare", one, "table2/paper", home=one, exit_code=2)
    assert said.startswith("error: unknown sweep `table2/paper`")
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_real_sweep_is_the_same_as_itself_elsewhere(tmp_path):
    home, copy = tmp_path / "home", tmp_path / "copy"
    rows = ("--methods", "scratch_adm", "--targets", "ph2", "--seeds", "0", "--workers", 1)
    hdsweep("run", "table2", "--scale", "smoke", *rows, home=home)
    shutil.copytree(home, copy)
    out, _ = hdsweep("compare", home, copy)
    assert "the same to the last bit" in out
    # Its run with another value and another torch, as if the copy were another machine's.
    (file,) = copy.glob("artifacts/*/artifacts/result.json")
    result = json.loads(file.read_text())
    torch, result["environment"]["torch"] = result["environment"]["torch"], "1.0"
    file.write_text(json.dumps(result))
    (file,) = copy.glob("artifacts/*/artifacts/table/table.json")
    table = json.loads(file.read_text())
    table["cells"][0]["values"]["0"] += 1e-9
    file.write_text(json.dumps(table))
    out, _ = hdsweep("compare", home, copy, exit_code=1, COLUMNS="120")
    assert "0 +1e-09" in out
    assert f"environment torch {torch} -> 1.0: 1 cell" in out
