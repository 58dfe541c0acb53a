"""The UI answers on this machine only, shows what is stored, and leaves no process behind."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.errors import InputError
from orchestrator.store.home.home import open_home
from orchestrator.verbs.ui import serve
from tests.command_line import command

ROOT = Path(__file__).parents[2]
HERE = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def stored(tmp_path):
    """Return a home in which something has been stored, as far as a file can tell."""
    home = open_home(tmp_path / "home")
    home.database.touch(mode=0o600)
    return home


def untold(url):
    raise AssertionError(f"{url} must not be served")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "10.0.0.1", "example.org", ""])
def test_a_host_that_others_can_reach_is_refused(stored, host):
    with pytest.raises(InputError, match="not a loopback address"):
        serve(stored.path, port=5000, host=host, tell=untold, say=untold)


def test_an_empty_home_is_refused_and_left_empty(tmp_path):
    with pytest.raises(InputError, match="nothing stored yet"):
        serve(tmp_path / "home", port=5000, tell=untold, say=untold)
    assert not (tmp_path / "home").exists()


def test_a_port_that_is_taken_is_refused(stored):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} .* cannot be used"):
            serve(stored.path, port=port, tell=untold, say=untold)


@pytest.fixture(scope="module")
def run_with_artifact(tmp_path_factory):
    """Return a home with one finished MLflow run that has a text, and the run's id."""
    from mlflow import MlflowClient

    home = open_home(tmp_path_factory.mktemp("ui") / "home")
    client = MlflowClient(f"sqlite:///{home.database}")
    experiment = client.create_experiment("study", artifact_location=home.artifacts.as_uri())
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "hello", "notes/greeting.txt")
    client.set_terminated(run)
    return home, run


@contextmanager
def ui(home):
    """Have `hdsweep ui` running on a free port; yields the process and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    call = command("ui", "--home", home.path, "--port", port)
    with subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            # Said only once the server answers; nothing if it never does.
            assert process.stdout.readline() == f"http://127.0.0.1:{port}\n"
            yield process, f"http://127.0.0.1:{port}"
        finally:
            # Not killed: its server would survive it.
            process.terminate()
            process.wait(30)


def get(url, **headers):
    with HERE.open(urllib.request.Request(url, headers=headers), timeout=20) as answer:
        return answer.read().decode()


def processes_of(home):
    """Return the ids of the live processes whose command names the home's database."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            called = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # It ended while we looked.
        if os.fsencode(home.database) in called:
            found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_it_serves_what_is_stored_until_it_is_stopped(run_with_artifact):
    home, run = run_with_artifact
    with ui(home) as (process, url):
        assert get(f"{url}/health") == "OK"
        assert get(f"{url}/get-artifact?path=notes/greeting.txt&run_uuid={run}") == "hello"
        # Another site whose name was made to point here is not let in.
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get(f"{url}/ajax-api/2.0/mlflow/artifacts/list?run_id={run}", Host="example.org")
        assert processes_of(home)
        stopped = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert time.monotonic() - stopped < 15
    assert processes_of(home) == []
    assert (home.logs / "ui.log").stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_stopped_before_it_answers_it_leaves_no_process(run_with_artifact):
    home, _ = run_with_artifact
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    call = command("ui", "--home", home.path, "--port", port)
    with subprocess.Popen(call, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not processes_of(home) and time.monotonic() < deadline:
            time.sleep(0.05)
        # Twice, as people who are in a hurry press Ctrl-C.
        process.terminate()
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
    assert processes_of(home) == []
