"""The runs of a home on MLflow's own server, on the loopback address, instead of in its database."""

import shutil
import urllib.request

import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import InputError
from orchestrator.plan.plan import load_plan
from orchestrator.store.home.home import open_home
from orchestrator.store.store import Store
from orchestrator.store.tracking.server import ServerError, choose
from orchestrator.verbs.rebuild import rebuild
from tests.command_line import hdsweep, outcome
from tests.mlflow_server import free_port, server
from tests.stored_runs import committed, fill, metric_history

pytestmark = pytest.mark.slow

OF_A_MOMENT = {"mlflow.parentRunId", "hdsweep.attempt_folder"}


@pytest.fixture(scope="module")
def plan():
    return load_plan("table2", scale="smoke", methods="hybrid_ft", targets="ph2", seeds="0")


@pytest.fixture
def home(tmp_path, laboratory):
    home = open_home(tmp_path / "home")
    choose(home, laboratory)
    return home


def recorded(client, experiment):
    """Return what MLflow knows of every run but ids, by name."""
    return {
        run.info.run_name: (
            run.info.status,
            {k: v for k, v in run.data.tags.items() if k not in OF_A_MOMENT},
            run.data.params,
            run.data.metrics,
        )
        for run in client.search_runs([experiment.experiment_id])
    }


def test_a_server_is_told_what_a_database_is(home, laboratory, plan, tmp_path):
    committed(home, plan, plan.runs[0])
    alone = open_home(tmp_path / "alone")
    committed(alone, plan, plan.runs[0])
    assert not home.database.exists()
    asked = MlflowClient(laboratory)
    shared = asked.get_experiment_by_name(f"hdsweep {home.path}")
    own = MlflowClient(f"sqlite:///{alone.database}")
    told = recorded(asked, shared)
    assert len(told) == 2
    assert told == recorded(own, own.get_experiment_by_name("hdsweep"))


def test_the_server_shows_artifacts_of_the_home(home, laboratory, plan):
    stored = committed(home, plan, plan.runs[0])
    assert stored.artifacts.is_relative_to(home.artifacts)
    address = f"{laboratory}/get-artifact?path=weights.safetensors&run_uuid={stored.run_id}"
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with straight.open(address, timeout=20) as answer:
        assert answer.read() == b"weights"


def test_homes_on_one_server_do_not_see_each_other(home, laboratory, plan, tmp_path):
    committed(home, plan, plan.runs[0])
    other = open_home(tmp_path / "other")
    choose(other, laboratory)
    with Store.open(other) as store:
        assert store.finished() == {}
    assert set(Store.read(home).finished()) == {plan.runs[0].key}


def test_what_the_next_driver_finds(home, plan):
    stored = committed(home, plan, plan.runs[0])
    again = open_home(home.path)  # It is the home that knows the server.
    with Store.open(again) as store:
        found = store.finished()[plan.runs[0].key]
        assert (found.run_id, found.metrics) == (stored.run_id, stored.metrics)
        assert metric_history(store, plan.runs[0].key, "loss") == [(1, 0.5), (2, 0.25)]


def test_a_run_that_was_deleted_in_the_ui_is_run_again(home, laboratory, plan):
    stored = committed(home, plan, plan.runs[0])
    MlflowClient(laboratory).delete_run(stored.run_id)
    with Store.open(home) as store:
        assert store.finished() == {}


@pytest.mark.parametrize("finished", [False, True])
def test_of_a_run_that_was_made_twice_one_is_kept(home, laboratory, plan, finished):
    # A request that is sent again, because its answer was lost, may have been carried out.
    key = plan.runs[0].key
    with Store.open(home) as store:
        store.begin_sweep(plan)
        attempt = store.start(plan.runs[0])
        first = store._runs[key]
        if finished:
            fill(attempt)
            store.commit(key, attempt)
        twin = store._client.create_run(
            store._experiment, run_name=first.name, tags=dict(first.tags)
        )
    with Store.open(home) as store:
        assert (store._runs[key].run_id == first.run_id) is finished
        kept = [
            run for run in every_run(laboratory, home) if run.data.tags["hdsweep.kind"] == "run"
        ]
        assert len(kept) == 1
        assert (kept[0].info.run_id == twin.info.run_id) is not finished


def every_run(laboratory, home):
    client = MlflowClient(laboratory)
    experiment = client.get_experiment_by_name(f"hdsweep {home.path}")
    return client.search_runs([experiment.experiment_id])


def test_a_server_that_goes_costs_nothing_that_is_finished(tmp_path, plan, monkeypatch):
    folder, port = tmp_path / "laboratory", free_port()
    folder.mkdir()
    home = open_home(tmp_path / "home")
    run = plan.runs[0]
    with server(folder, port):
        choose(home, f"http://127.0.0.1:{port}")
        store_of_driver = Store.open(home)
        store = store_of_driver.__enter__()
        store.begin_sweep(plan)
        attempt = store.start(run)
        fill(attempt)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ServerError, match=r"Connection refused\n\nhint: nothing that is finished"):
        store.commit(run.key, attempt)
    store_of_driver.__exit__(None, None, None)
    with pytest.raises(InputError, match="does not answer"):
        Store.read(home)
    with server(folder, port), Store.open(home) as store:
        assert store.reconciled == {run.key: "published"}
        assert store.finished()[run.key].metrics["final_loss"] == 0.25


def test_a_home_moves_to_a_server_and_back(tmp_path, laboratory, plan):
    home = open_home(tmp_path / "home")
    before = committed(home, plan, plan.runs[0])
    with pytest.raises(
        InputError, match=r"in its own database.*\n\nhint: `hdsweep reconcile --re"
    ):
        choose(home, laboratory)
    assert rebuild(home, laboratory).runs == 1
    after = Store.read(home).finished()[plan.runs[0].key]
    assert after.metrics == before.metrics
    assert (after.artifacts / "weights.safetensors").read_bytes() == b"weights"
    choose(home, None)
    choose(home, f"{laboratory}/")  # The same one.
    assert rebuild(home, "home").runs == 1
    assert home.tracking_uri is None
    assert set(Store.read(home).finished()) == {plan.runs[0].key}


def test_a_moved_home_is_recorded_anew_and_a_link_to_it_is_the_same(home, laboratory, plan):
    before = committed(home, plan, plan.runs[0])
    link = home.path.with_name("link")
    link.symlink_to(home.path)
    with Store.open(open_home(link)) as store:
        assert store.moved is None
        assert store.finished()[plan.runs[0].key].run_id == before.run_id
    moved = open_home(home.path.rename(home.path.with_name("moved")))
    with pytest.raises(InputError, match="moved or copied.*") as error:
        Store.read(moved)  # Not that there is nothing.
    assert f"`hdsweep reconcile --home {moved.path}`" in error.value.hint
    with Store.open(moved) as store:
        assert f"recorded anew, as experiment `hdsweep {moved.path}`" in store.moved
        after = store.finished()[plan.runs[0].key]
        assert after.metrics == before.metrics
        paths = [each.path for each in store._client.list_artifacts(after.run_id)]
        assert "weights.safetensors" in paths
    with Store.open(moved) as store:
        assert store.moved is None


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("postgresql://lab/mlflow", "must be http://HOST:PORT"),
        ("lab:5000", "must be http://HOST:PORT"),
        ("http://me:secret@lab:5000", "must hold no password"),
        ("http://127.0.0.1:1", "does not answer: [Errno 111] Connection refused"),
    ],
)
def test_wrong_addresses_are_told_in_one_line_and_leave_no_trace(tmp_path, uri, said):
    arguments = ["reconcile", "--home", str(tmp_path / "home"), "--tracking-uri", uri]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception).splitlines()[0]
    assert "secret" not in str(result.exception)
    assert not (tmp_path / "home/TRACKING").exists()


def test_the_ui_is_the_servers(home, laboratory):
    result = CliRunner().invoke(app, ["ui", "--home", str(home.path)])
    assert (result.exit_code, result.stdout) == (0, f"{laboratory}\n")


def test_a_sweep_over_a_server_ends_with_the_same_table(home, tmp_path):
    asked = ["--scale", "smoke", "--methods", "scratch_adm", "--targets", "ph2", "--seeds", "0"]
    alone = tmp_path / "alone"
    shutil.copytree(home.path / "datasets", alone / "datasets")
    values = []
    for each in (home.path, alone):
        out, _ = hdsweep("run", "table2", *asked, "--json", home=each)
        assert len(out.splitlines()) == 1, "MLflow talks on standard output"
        out, _ = hdsweep("report", "table2", *asked, "--json", home=each)
        values.append(outcome(out))
    assert values[0] == values[1]
