"""`--json`: one document per call, each as docs/json.md says; errors too."""

import json
import shutil

import pytest

from orchestrator.plan.plan import load_plan
from orchestrator.store.home.home import open_home
from orchestrator.store.store import Store
from orchestrator.verbs.run import table_of, write_table
from tests.command_line import hdsweep
from tests.documents import described, document, hold
from tests.stored_runs import commit_made_up

ROWS = ("table2", "--scale", "smoke", "--methods", "hybrid_ft,scratch_adm", "--targets", "ph2")


@pytest.fixture(scope="module")
def home(tmp_path_factory, empty_database):
    home = open_home(tmp_path_factory.mktemp("json") / "home")
    shutil.copy(empty_database, home.database)
    plan = load_plan("table2", scale="smoke", methods="hybrid_ft,scratch_adm", targets="ph2")
    with Store.open(home) as store:
        store.begin_sweep(plan, "hdsweep run table2")
        commit_made_up(store, plan)
        write_table(store, table_of(plan, store), plan)
        store.end_sweep(complete=True)
    return home.path


@pytest.mark.parametrize(
    ("call", "schema"),
    [
        (("plan", *ROWS, "--gpus", 2), "plan"),
        (("plan", "table2"), "plan"),
        (("status", *ROWS), "status"),
        (("report", *ROWS), "table"),
        (("compare", "table2/smoke, only scratch_adm+hybrid_ft, ph2", "{home}"), "compare"),
        (("reconcile",), "reconcile"),
        (("data", "list"), "data.list"),
        (("data", "prepare", "ph2-like", "--image-size", 16), "data.prepared"),
        (("data", "verify", "ph2-like", "--image-size", 16), "data.verify"),
        (("weights", "list"), "weights.list"),
    ],
)
def test_a_call_prints_one_document_that_is_as_described(home, call, schema):
    call = [str(part).format(home=home) for part in call]
    out, _ = hdsweep(*call, "--json", home=home)
    assert document(out)["schema"] == f"hdsweep.{schema}"


def test_the_table_in_the_files_is_the_one_that_is_printed(home):
    out, _ = hdsweep("report", *ROWS, "--json", home=home)
    (file,) = home.glob("artifacts/*/artifacts/table/table.json")
    assert json.loads(file.read_text()).keys() == json.loads(out).keys()
    assert json.loads(file.read_text())["cells"] == json.loads(out)["cells"]
    document(file.read_text())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("status", "table2"), "unknown sweep `table2/paper`"),
        (("plan", "tabel2"), "unknown study `tabel2`"),
        (("plan", "table2", "--gpu"), "No such option: --gpu"),
        (("plan",), "Missing argument"),
        (("plan", "table2", "--gpus", "many"), "many"),
        (("compare", "nowhere", "nowhere"), "holds no table of a sweep"),
    ],
)
def test_an_error_is_a_document_on_standard_error(home, call, message):
    out, err = hdsweep(*call, "--json", home=home, exit_code=2)
    assert out == ""
    error = document(err.splitlines()[-1])
    assert error["schema"] == "hdsweep.error"
    assert message in error["message"]
    assert error["exit_code"] == 2
    assert "hint:" not in error["message"]


def test_what_is_not_described_is_found():
    fields = described()["hdsweep.error"]
    right = {"message": "m", "hint": None, "exit_code": 2}
    hold(right, fields)
    for wrong in (
        {**right, "more": 1},
        {"message": "m", "hint": None},
        {**right, "exit_code": "2"},
        {**right, "exit_code": True},
        {**right, "message": None},
    ):
        with pytest.raises(AssertionError):
            hold(wrong, fields)
    cell = {"a": {"metric": "jaccard", "mean": 1.0, "std": None, "n": "one"}}
    with pytest.raises(AssertionError, match=r"cells\[\].a.n"):
        hold({"cells": [cell]}, described()["hdsweep.compare"])
