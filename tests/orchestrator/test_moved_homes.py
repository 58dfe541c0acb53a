"""A home that is moved, copied, linked to or restored keeps its artifacts in MLflow, and says so."""

import shutil
import sqlite3
from contextlib import closing

import pytest
from mlflow import MlflowClient

from orchestrator.plan.plan import load_plan
from orchestrator.store.home.home import Home, open_home
from orchestrator.store.store import Store
from orchestrator.store.tracking.artifact_locations import mend
from orchestrator.store.tracking.database import database_uri
from tests.command_line import hdsweep
from tests.stored_runs import committed

# Names that change on their way into a URI, or could be taken for a pattern.
NAMES = ("elsewhere", "with space", "ä%20_%", "new'quote")


@pytest.fixture(scope="module")
def plan():
    return load_plan("table2", scale="smoke", methods="hybrid_ft", targets="ph2", seeds="0")


@pytest.fixture(scope="module")
def original(tmp_path_factory, plan):
    """Return a home with a finished run and a table, which tests copy."""
    home = open_home(tmp_path_factory.mktemp("original") / "home")
    committed(home, plan, plan.runs[0])
    with Store.open(home) as store:
        folder = store.folder_of_group(_search(store))
        (folder / "answer.json").write_text("{}")
    return home


def _search(store):
    store.begin_group("search/s", "tune", {})
    store.end_group("search/s", "FINISHED", {})
    return "search/s"


@pytest.fixture
def home(original, tmp_path):
    """Return a copy that has been opened where it is."""
    copy = Home(shutil.copytree(original.path, tmp_path / "home"))
    assert mend(copy)
    return copy


def listed(home):
    """Return what MLflow's own client lists of each run, by its name, and where it reads it."""
    client = MlflowClient(database_uri(home.database))
    experiment = client.get_experiment_by_name("hdsweep").experiment_id
    runs = client.search_runs([experiment])
    return {
        run.info.run_name: sorted(each.path for each in client.list_artifacts(run.info.run_id))
        for run in runs
    }


def locations(home):
    with closing(sqlite3.connect(home.database)) as connection:
        ours = connection.execute(
            "SELECT artifact_location FROM experiments WHERE name = 'hdsweep'"
        )
        runs = connection.execute("SELECT artifact_uri FROM runs")
        return {place for (place,) in [*ours, *runs]}


@pytest.mark.parametrize("name", NAMES)
def test_a_moved_home_lists_its_artifacts_again_searches_too(home, name):
    before = listed(home)
    assert "weights.safetensors" in before["pretrain hybrid isic2018-like"]
    assert before["tune"] == ["answer.json", "group.json"]
    moved = open_home(home.path.rename(home.path.with_name(name)))
    told = mend(moved)
    assert told.startswith(f"home `{moved.path}` was moved or copied from `{home.path}`: ")
    assert "3 runs" in told
    assert listed(moved) == before
    assert all(place.startswith(moved.artifacts.as_uri()) for place in locations(moved))
    assert mend(moved) is None


def test_a_copied_home_has_its_own_artifacts(home):
    copy = Home(shutil.copytree(home.path, home.path.with_name("copy")))
    assert "was copied from" in mend(copy)
    shutil.rmtree(home.artifacts)
    assert listed(copy)["tune"] == ["answer.json", "group.json"]
    assert mend(home) is None
    assert all(place.startswith(home.artifacts.as_uri()) for place in locations(home))


def test_a_home_that_is_reached_through_a_link_is_left_alone(home):
    link = home.path.with_name("link")
    link.symlink_to(home.path)
    before = locations(home)
    assert mend(Home(link)) is None
    assert locations(home) == before


def test_a_home_that_was_made_through_a_link_follows_once_the_link_is_gone(home):
    home.path.rename(home.path.with_name("disk"))
    home.path.symlink_to(home.path.with_name("disk"))
    assert mend(Home(home.path)) is None
    home.path.unlink()
    moved = Home(home.path.with_name("disk"))
    assert mend(moved)
    assert listed(moved)["tune"] == ["answer.json", "group.json"]


def test_a_backup_that_is_restored_in_its_place_is_left_alone(home):
    backup = shutil.copytree(home.path, home.path.with_name("backup"))
    shutil.rmtree(home.path)
    shutil.copytree(backup, home.path)
    assert mend(home) is None
    assert listed(home)["tune"] == ["answer.json", "group.json"]


def test_what_others_put_elsewhere_is_left_there(home):
    client = MlflowClient(database_uri(home.database))
    # One whose place begins as ours does, and is another.
    other = f"{home.artifacts.as_uri()}-of-others"
    client.create_experiment("theirs", artifact_location=other)
    within = client.create_experiment("mine", artifact_location=f"{home.artifacts.as_uri()}/mine")
    moved = Home(home.path.rename(home.path.with_name("moved")))
    mend(moved)
    client = MlflowClient(database_uri(moved.database))
    assert client.get_experiment_by_name("theirs").artifact_location == other
    place = client.get_experiment(within).artifact_location
    assert place == f"{moved.artifacts.as_uri()}/mine"


def test_reconcile_mends_a_moved_home_and_says_so_once(home):
    moved = home.path.rename(home.path.with_name("moved"))
    _, said = hdsweep("reconcile", home=moved)
    assert f"was moved or copied from `{home.path}`" in said
    _, said = hdsweep("reconcile", home=moved)
    assert "moved" not in said
    assert listed(Home(moved))["tune"] == ["answer.json", "group.json"]
