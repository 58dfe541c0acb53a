"""What `hdsweep ui` prints leads a browser that was never there to the report and to the runs."""

import socket
import subprocess

import pytest

from orchestrator.plan.plan import load_plan
from orchestrator.store.home.home import open_home
from orchestrator.store.store import Store
from tests.browser import browser
from tests.command_line import command
from tests.stored_runs import fill

pytestmark = pytest.mark.slow
ROW = {
    "method": "hybrid_ft",
    "target": "ph2",
    "dataset": "ph2-like",
    "metric": "jaccard",
    "mean": 50.5,
    "std": 0.5,
    "n": 2,
}


def stored_sweep(folder):
    """Return a home with a finished sweep and its page, without training anything."""
    home = open_home(folder / "home")
    plan = load_plan(
        "table2", scale="smoke", methods="hybrid_ft,i1k_sup_segformer", targets="ph2,montgomery"
    )
    with Store.open(home) as store:
        store.begin_sweep(plan)
        for run in plan.runs:
            attempt = store.start(run)
            score = {"final_loss": 0.5} if run.pretraining else {"test_jaccard": 50.25 + run.seed}
            fill(attempt, metrics=score)
            spec = run.spec.model_dump_json()
            rewrite(attempt.artifacts, spec)
            store.commit(run.key, attempt)
        store.write_table(page, [ROW], "| method |")
        store.end_sweep(complete=True)
    return home, plan


def rewrite(folder, spec):
    """Have the real spec among what a worker left, so that it can be read as one."""
    import hashlib
    import json

    (folder / "spec.json").write_text(spec)
    result = json.loads((folder / "result.json").read_text())
    digest = hashlib.sha256(spec.encode()).hexdigest()
    result["artifacts"]["spec.json"] = {"sha256": digest, "bytes": len(spec.encode())}
    (folder / "result.json").write_text(json.dumps(result))


def page(folder):
    (folder / "report.html").write_text("<!DOCTYPE html><h1>The page of this sweep</h1>")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Return what is stored, and the addresses that `hdsweep ui` prints, by what they are."""
    home, plan = stored_sweep(tmp_path_factory.mktemp("browser"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    call = command("ui", "--home", home.path, "--port", port)
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == f"http://127.0.0.1:{port}\n"
            lines = [process.stdout.readline().strip() for _ in range(2)]
            yield plan, dict(line.split(": ", 1) for line in lines)
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def window():
    with browser() as opened:
        yield opened


def test_the_list_of_runs_shows_what_tells_them_apart(served, window):
    plan, addresses = served
    window.open(addresses["runs"])
    fine_tunings = [run for run in plan.runs if not run.pretraining]
    names = [run.label for run in fine_tunings]
    heads = ["hdsweep.methods", "hdsweep.dataset", "hdsweep.seed", "test_jaccard", "mask_weight"]
    text = window.text_with(*names, *heads)
    assert [each for each in (*names, *heads) if each not in text] == []
    assert "Traces 0" not in text
    # As wide as they are shown: a name that is cut looks like another.
    cut = window.value(
        "return [...document.querySelectorAll('[col-id*=\"Run Name\"] a')]"
        ".filter(a => a.scrollWidth > a.clientWidth + 1).map(a => a.innerText)"
    )
    assert cut == []
    # The data, its metric and lambda of the pretraining, in rows of the grid.
    for wanted in ("montgomery-like", "51.25", "0.0001"):
        assert wanted in text


def test_the_report_is_open_and_shown(served, window):
    _, addresses = served
    window.open(addresses["report"])
    text = window.text_with("report.html", "Artifacts")
    assert "report.html" in text
    for _ in range(100):
        if window.value("return document.querySelectorAll('iframe').length"):
            break
        window.text_with("report.html")
    window.within("iframe")
    assert "The page of this sweep" in window.text_with("The page of this sweep")


def test_a_sweep_has_its_means_as_metrics_and_a_run_its_data(served, window):
    plan, addresses = served
    window.open(addresses["report"].replace("/artifacts/report.html", ""))
    text = window.text_with("hybrid_ft/ph2-like", "50.5")
    assert "hybrid_ft/ph2-like" in text
    assert "50.5" in text
    window.open(addresses["runs"])
    assert f"{plan.runs[0].spec.dataset.name}" in window.text_with("isic2018-like")
