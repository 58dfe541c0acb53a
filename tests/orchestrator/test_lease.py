"""One driver at a time also where no lock reaches: a home in an object store."""

import os
import time

import pytest

from orchestrator.errors import InputError
from orchestrator.store.home import lease
from orchestrator.store.home.lease import Lease, LeaseLostError, ourselves, read_lease
from trainables.storage import Storage


@pytest.fixture(params=["bucket", "google_bucket"])
def store(request, monkeypatch):
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.0)
    return Storage(request.getfixturevalue(request.param)("home"))


def elsewhere(**changes):
    return {**ourselves(), "host": "elsewhere", "boot": "another", **changes}


def test_a_second_driver_is_refused_and_told_who_drives(store):
    first, second = Lease(store, elsewhere(pid="4711")), Lease(store, ourselves())
    with first.held():
        first.require()
        with (
            pytest.raises(InputError, match=r"(s3|gs)://.*process 4711 on elsewhere"),
            second.held(),
        ):
            pass
    assert read_lease(store) == {}
    with second.held():
        second.require()


def test_a_silent_lease_goes_to_the_next_and_its_holder_gives_up(store, monkeypatch):
    monkeypatch.setattr(lease, "STALE_SECONDS", 1.0)
    silent = Lease(store, elsewhere())
    silent._take()
    time.sleep(2.1)  # The store tells time in whole seconds.
    with Lease(store, ourselves()).held(), pytest.raises(LeaseLostError):
        silent.require()  # It was not renewed: whether somebody took it is unknown to it.


def test_a_holder_that_finds_another_gives_up(store, monkeypatch):
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.05)
    first = Lease(store, elsewhere())
    with first.held():
        first.require()
        other = Lease(store, ourselves())
        other._write()
        deadline = time.monotonic() + 10
        while not first._taken_by_other:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(LeaseLostError, match="another driver took it over"):
            first.require()
    assert read_lease(store)["token"] == other._token  # The other's lease is left alone.


def test_a_driver_that_died_on_this_machine_is_followed_at_once(store):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    Lease(store, {**ourselves(), "pid": str(child)})._take()
    with Lease(store, ourselves()).held():
        pass


def test_a_process_id_of_another_container_says_nothing(store):
    # Of the same machine and the same name, as one may be whose process ids are its own.
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    Lease(store, {**ourselves(), "pid": str(child), "pids": "pid:[1]"})._take()
    with (
        pytest.raises(InputError, match="used by another sweep"),
        Lease(store, ourselves()).held(),
    ):
        pass


def test_a_driver_that_lives_keeps_its_lease(store, monkeypatch):
    monkeypatch.setattr(lease, "STALE_SECONDS", 2.0)
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.2)
    with Lease(store, elsewhere()).held():
        time.sleep(3.1)
        with pytest.raises(InputError), Lease(store, ourselves()).held():
            pass
