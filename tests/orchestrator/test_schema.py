"""A home of an older MLflow is opened; nothing of it is lost, and what it was is kept."""

import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from mlflow import MlflowClient
from mlflow.store.db.utils import InitialBase, _get_alembic_config, _get_latest_schema_revision
from sqlalchemy import create_engine

from orchestrator.errors import InputError
from orchestrator.store.home.home import Home, open_home
from orchestrator.store.store import Store
from orchestrator.store.tracking.database import database_uri
from orchestrator.store.tracking.schema import upgrade

FIXTURE = Path(__file__).parents[1] / "fixtures/home_before_identities.tar.xz"
OLDER = "0584bdc529eb"  # Datasets had come, traces had not: MLflow 2.
COLUMNS = ("experiments", "experiment_tags", "runs", "tags", "params", "metrics", "latest_metrics")


@pytest.fixture
def home(tmp_path):
    """Return the oldest home there is, as its archive has it."""
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    (version,) = tmp_path.rglob("VERSION")
    return open_home(version.parent)


def revision(database):
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def older(home):
    """Put what a home has into a database as an older MLflow made it."""
    now, old = home.path / "now.db", home.path / "old.db"
    shutil.move(home.database, now)
    engine = create_engine(database_uri(old))
    InitialBase.metadata.create_all(engine)
    config = _get_alembic_config(database_uri(old))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, OLDER)
    engine.dispose()
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("ATTACH ? AS now", (str(now),))
        for table in COLUMNS:
            had = [row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")]
            has = {row[1] for row in connection.execute(f"PRAGMA now.table_info({table})")}
            names = ", ".join(name for name in had if name in has)
            connection.execute(f"DELETE FROM main.{table}")
            connection.execute(
                f"INSERT INTO main.{table} ({names}) SELECT {names} FROM now.{table}"
            )
        connection.commit()
    old.rename(home.database)
    now.unlink()


def test_the_oldest_home_is_opened_where_it_is_now(home):
    with Store.open(home) as store:
        assert "MLflow now finds the artifacts of its 14 runs here" in store.moved
        runs = store.finished()
        assert runs
        for run in runs.values():
            paths = [each.path for each in store._client.list_artifacts(run.run_id)]
            assert "result.json" in paths


def test_the_database_of_an_older_mlflow_is_upgraded_on_a_copy(home):
    before = Store.read(home).finished()
    older(home)
    assert revision(home.database) == OLDER
    with Store.open(home) as store:
        assert f"kept as mlflow.schema-{OLDER}.db" in store.moved
        after = store.finished()
    assert {key: run.metrics for key, run in after.items()} == {
        key: run.metrics for key, run in before.items()
    }
    assert revision(home.database) == _get_latest_schema_revision()
    kept = home.path / f"mlflow.schema-{OLDER}.db"
    assert revision(kept) == OLDER
    assert kept.stat().st_mode & 0o077 == 0
    client = MlflowClient(database_uri(home.database))
    assert client.get_experiment_by_name("hdsweep") is not None
    assert upgrade(home) is None


def test_the_database_of_a_newer_mlflow_is_refused_and_left_alone(home):
    with closing(sqlite3.connect(home.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = home.database.read_bytes()
    with pytest.raises(InputError, match="the schema ffffffffffff of a newer MLflow"):
        upgrade(Home(home.path))
    assert home.database.read_bytes() == before
