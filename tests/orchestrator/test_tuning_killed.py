"""What Optuna's storage holds of a search, whatever happens to the driver.

Closed-form objectives instead of training; what is stored is read back with plain Optuna. A driver
killed at any moment leaves a prefix of the journal, so cutting a journal short is being killed.
"""

import contextlib
import math
import sqlite3
import time
import traceback

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.tune import TuneError

from orchestrator.errors import HdsweepError, InputError
from orchestrator.tuning.ledger import Ledger, failures_of_storage, journal_of
from orchestrator.tuning.search import make_search

SAMPLERS = ("tpe", "gp", "random", "grid", "cmaes")
SCHEDULERS = ("asha", "hyperband", "median", "none")
GRID_SIZE = 6  # 1, 1e-1, ..., 1e-5.


def search_in(home, **wanted):
    wanted = {"study": "table2", "source": "isic2018", "scale": "demo", "trials": 8, **wanted}
    return make_search("lambda", home=home, **wanted)


def hill(values, rung):
    """Highest at lambda = 1e-2, and higher with each rung."""
    return 50 - (math.log10(values["lambda"]) + 2) ** 2 + rung


def advance(search, ledger, trial):
    """Take a trial through its rungs, as the driver does."""
    value = math.nan
    values = ledger.values(trial)
    for rung in range(search.rungs):
        value = hill(values, rung)
        if ledger.report(trial, rung, value):
            ledger.prune(trial)
            return
    ledger.complete(trial, value)


def drive(search):
    """Bring a search to its end: first what was left running, then what is missing."""
    ledger = Ledger(search)
    for trial in ledger.left():
        advance(search, ledger, trial)
    while (asked := ledger.ask()) is not None:
        advance(search, ledger, asked[0])
    return ledger


def read_back(search):
    """Return the trials as somebody sees them who has only Optuna."""
    storage = JournalStorage(JournalFileBackend(str(journal_of(search))))
    return optuna.load_study(study_name=search.name, storage=storage).trials


def outcome(trials):
    return [(t.state, t.params, t.values, t.intermediate_values) for t in trials]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_has_its_trials_no_point_twice_and_none_left_running(
    sampler, scheduler, tmp_path
):
    search = search_in(tmp_path, sampler=sampler, scheduler=scheduler, trials=12)
    drive(search)
    trials = read_back(search)
    assert len(trials) == (GRID_SIZE if sampler == "grid" else 12)
    assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert len({t.params["lambda"] for t in trials}) == len(trials)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "median"])
def test_killed_after_any_write_it_ends_as_if_it_had_not_been(scheduler, tmp_path):
    undisturbed = search_in(tmp_path / "undisturbed", scheduler=scheduler)
    drive(undisturbed)
    expected = outcome(read_back(undisturbed))
    assert {state for state, *_ in expected} == {TrialState.COMPLETE, TrialState.PRUNED}
    lines = journal_of(undisturbed).read_bytes().splitlines(keepends=True)
    for kept in range(len(lines)):
        search = search_in(tmp_path / str(kept), scheduler=scheduler)
        journal_of(search).parent.mkdir(parents=True)
        # And the line after it torn, as a full disk leaves it.
        torn = lines[kept][: len(lines[kept]) // 2]
        journal_of(search).write_bytes(b"".join(lines[:kept]) + torn)
        drive(search)
        assert outcome(read_back(search)) == expected, f"killed after write {kept}"


def test_a_lock_that_a_killed_driver_left_holds_up_nobody(tmp_path):
    search = search_in(tmp_path, trials=2)
    Ledger(search)
    journal = journal_of(search)
    # As Optuna's own lock is left by a SIGKILL: it is held back for 30 s then.
    journal.with_name(f"{journal.name}.lock").symlink_to(journal)
    start = time.monotonic()
    drive(search)
    assert time.monotonic() - start < 10
    assert len(read_back(search)) == 2


def test_a_storage_that_cannot_be_opened_is_one_line_without_the_password(tmp_path):
    url = f"sqlite://someone:secret@nowhere/{tmp_path}/none/optuna.db"
    with pytest.raises(InputError) as caught:
        Ledger(search_in(tmp_path), url)
    message = str(caught.value).partition("\n\nhint: ")[0]
    assert message.startswith("the storage of the search, sqlite://someone:***@nowhere/")
    assert "secret" not in message
    assert "\n" not in message


@pytest.fixture
def database(tmp_path):
    """Return the URL of a storage with a search in it, and a connection to lock or change it by."""
    file = tmp_path / "optuna.db"
    url = f"sqlite:///{file}?timeout=0.1"
    drive_to(url, search_in(tmp_path, trials=1))
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        yield url, connection


def drive_to(url, search):
    ledger = Ledger(search, url)
    while (asked := ledger.ask()) is not None:
        advance(search, ledger, asked[0])


def test_a_storage_that_is_locked_is_one_line(database, tmp_path):
    url, connection = database
    connection.execute("begin exclusive")
    with pytest.raises(InputError, match=r"cannot be opened: .*database is locked\n\nhint: "):
        Ledger(search_in(tmp_path), url)


def test_a_storage_that_is_locked_in_the_middle_is_one_line_and_nothing_is_lost(
    database, tmp_path
):
    url, connection = database
    search = search_in(tmp_path, trials=2)
    ledger = Ledger(search, url)
    connection.execute("begin exclusive")
    failed = pytest.raises(HdsweepError, match=r"failed: .*database is locked\n\nhint: ")
    with failed, failures_of_storage(url):
        try:
            ledger.ask()
        except optuna.exceptions.StorageInternalError:
            raise TuneError(traceback.format_exc())  # noqa: B904  As Ray Tune does.
    connection.execute("rollback")
    drive_to(url, search)
    assert len(optuna.load_study(study_name=search.name, storage=url).trials) == 2


def test_a_storage_of_a_newer_optuna_is_one_line(database, tmp_path):
    url, connection = database
    connection.execute("update alembic_version set version_num = 'v9.0.0'")
    with pytest.raises(InputError, match="no longer compatible with the table schema") as caught:
        Ledger(search_in(tmp_path), url)
    assert "an Optuna as new as the one that wrote it" in str(caught.value)


def test_a_journal_of_a_newer_optuna_is_one_line(tmp_path):
    search = search_in(tmp_path)
    Ledger(search)
    with journal_of(search).open("a") as journal:
        journal.write('{"op_code": 99, "worker_id": "another"}\n')
    with pytest.raises(InputError, match="an Optuna as new as the one that wrote it"):
        Ledger(search)


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "", " ", ".hidden"])
def test_the_name_of_a_search_is_no_path(name, tmp_path):
    with pytest.raises(InputError, match="letters, digits"):
        search_in(tmp_path, name=name)
