"""A database that may only be looked at, whoever has it open; and addresses of paths of any name."""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.store.db.utils import _make_parent_dirs_if_sqlite
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import append_to_uri_path, extract_db_type_from_uri
from sqlalchemy import make_url

from orchestrator.store.home.home import Home
from orchestrator.store.home.read_only import copy_to, may_write, reading
from orchestrator.store.tracking.database import database_uri
from tests.unprivileged import NOBODY, unprivileged


@pytest.fixture
def theirs(tmp_path):
    """Return a database in write-ahead mode, and what lets its group look at it and no more."""
    folder = tmp_path / "a#b?c%20&= é"
    folder.mkdir()
    database = folder / "mlflow.db"
    with contextlib.closing(sqlite3.connect(database)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE runs (name TEXT)")
        writer.execute("INSERT INTO runs VALUES ('first')")
        writer.commit()

    def give_away():
        for path in (folder, *folder.iterdir()):
            path.chmod(0o550 if path.is_dir() else 0o440)
            if os.geteuid() == 0:
                os.chown(path, NOBODY, os.getegid())

    yield database, give_away
    folder.chmod(0o700)


def names(database):
    with unprivileged():
        assert not may_write(database)
        before = sorted(os.listdir(database.parent))
        with reading(database) as connection:
            found = [name for (name,) in connection.execute("SELECT name FROM runs")]
        assert sorted(os.listdir(database.parent)) == before
    return found


def test_one_that_nobody_has_open(theirs):
    database, give_away = theirs
    give_away()
    assert names(database) == ["first"]


def test_one_that_is_being_written(theirs):
    database, give_away = theirs
    with contextlib.closing(sqlite3.connect(database)) as writer:
        writer.execute("INSERT INTO runs VALUES ('second')")
        writer.commit()
        give_away()
        assert names(database) == ["first", "second"]


def test_one_whose_writer_was_killed(theirs, tmp_path):
    database, give_away = theirs
    with contextlib.closing(sqlite3.connect(database)) as writer:
        writer.execute("INSERT INTO runs VALUES ('second')")
        writer.commit()
        for end in ("", "-wal"):
            shutil.copyfile(f"{database}{end}", tmp_path / f"kept{end}")
    for end in ("", "-wal"):
        shutil.copyfile(tmp_path / f"kept{end}", f"{database}{end}")
    give_away()
    assert names(database) == ["first", "second"]
    with unprivileged():
        copy = copy_to(database, tmp_path)
    with reading(copy) as connection:
        assert len(connection.execute("SELECT name FROM runs").fetchall()) == 2


def test_one_that_may_not_be_read_says_so(theirs):
    database, give_away = theirs
    give_away()
    database.chmod(0)
    with (
        unprivileged(),
        pytest.raises(PermissionError),
        reading(database),
    ):
        pass


PARTS = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1
).filter(lambda part: part not in (".", ".."))


@given(st.lists(PARTS, min_size=1, max_size=4))
@example(["tmp", "h#o?m%20e&="])
@example(["%2e%2e", "a b", "ü", "a:b@c", ";x=1", "\n", "//"[:1] + "~", "sqlite:"])
def test_an_address_leads_to_the_path_that_it_was_made_of(parts):
    path = Path("/", *(part.replace("/", "_") for part in parts))
    home = Home(path)
    address = database_uri(home.database)
    assert make_url(address).database == str(home.database)
    assert make_url(address).query == {}
    assert extract_db_type_from_uri(address) == "sqlite"
    where = home.artifacts.as_uri()
    assert Path(unquote(urlsplit(where).path)) == home.artifacts
    below = append_to_uri_path(where, "0" * 32, "artifacts")
    assert local_file_uri_to_path(below) == str(home.artifacts / ("0" * 32) / "artifacts")


def test_mlflow_makes_no_folder_of_an_address(tmp_path):
    folder = tmp_path / "h#o?m%20e&="
    folder.mkdir()
    _make_parent_dirs_if_sqlite(database_uri(folder / "mlflow.db"))
    assert os.listdir(tmp_path) == [folder.name]
