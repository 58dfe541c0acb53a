"""What of Ray is private: it is there, one that is gone is told in one line, and names are always given back."""

import importlib.metadata
import re
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from orchestrator.cluster.session import private as ray_private
from orchestrator.cluster.session.private import NEEDED, OtherRayError, Private, require_known_ray
from orchestrator.cluster.session.processes import kept_apart

ROOT = Path(ray_private.__file__).parents[3]
ALL = [each for each in vars(ray_private).values() if isinstance(each, Private)]


@pytest.mark.parametrize("name", ALL, ids=lambda each: each.path)
def test_the_installed_ray_has_each_name(name):
    name.get()


def test_the_ray_that_was_tried_is_the_one_that_is_pinned_and_no_later_one_is_let_in():
    pinned = (ROOT / "constraints.txt").read_text()
    assert f"\nray=={ray_private.TRIED}\n" in f"\n{pinned}"
    wanted = [Requirement(line) for line in importlib.metadata.requires("hdsweep")]
    (ray,) = [each for each in wanted if each.name == "ray"]
    major, minor, _ = map(int, ray_private.TRIED.split("."))
    assert ray.specifier.contains(ray_private.TRIED)
    assert not ray.specifier.contains(f"{major}.{minor + 1}.0")


def test_every_private_name_is_looked_up_here():
    """Elsewhere than in tests; workers ask for what the driver has found to be there."""
    told = {each.module for each in ALL}
    for file in [*ROOT.glob("orchestrator/**/*.py"), *ROOT.glob("trainables/**/*.py")]:
        imported = re.findall(
            r"^\s*(?:from|import) (ray\S*\._private\S*)", file.read_text(), re.MULTILINE
        )
        allowed = told if file.name == "tune_adapter.py" else set()
        assert set(imported) <= allowed, file


def test_a_missing_name_is_one_line_with_the_ray_that_was_tried(monkeypatch):
    monkeypatch.delattr("ray._private.services.ConsolePopen")
    with pytest.raises(OtherRayError) as refused:
        require_known_ray()
    line, _, hint = str(refused.value).partition("\n\n")
    assert "\n" not in line
    assert "`ray._private.services.ConsolePopen`" in line
    assert f"tried with Ray {ray_private.TRIED}" in line
    assert f"=={ray_private.TRIED}" in hint
    assert refused.value.exit_code == 1


def names():
    return [each.get() for each in NEEDED]


def test_names_are_given_back_whatever_happens_inside():
    def fail():
        with kept_apart():
            assert names() != before
            raise KeyError

    before = names()
    with pytest.raises(KeyError):
        fail()
    assert names() == before


def test_outside_of_the_main_thread_no_handler_is_touched_and_names_are_given_back():
    before, handlers = names(), {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    failed = []

    def use():
        try:
            with kept_apart():
                assert names() != before
        except BaseException as error:  # noqa: BLE001 - shown by the thread that asks
            failed.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert not failed
    assert names() == before
    assert {n: signal.getsignal(n) for n in handlers} == handlers


def test_a_handler_that_python_did_not_set_is_left_alone(monkeypatch):
    before = names()
    monkeypatch.setattr(signal, "getsignal", lambda _: None)  # As of one set in C.
    with kept_apart():
        pass
    assert names() == before


SWEEP_IN_A_THREAD = """
    import os, signal, threading
    from orchestrator.cluster.session.session import ray_session

    def use():
        with ray_session(workers=1):
            import ray
            told.append(ray.get(ray.remote(lambda: os.getpid()).remote()))

    told, before = [], signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert told and signal.getsignal(signal.SIGTERM) == before
"""


@pytest.mark.slow
def test_ray_runs_for_a_thread_too():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SWEEP_IN_A_THREAD)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
