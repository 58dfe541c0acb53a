"""A home in an object store: the command line as a user runs it, against an S3 API on loopback.

A driver is killed in the middle and another machine goes on, which has nothing but the address.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import pytest

from tests.end_to_end.processes import PATIENCE_S, wait_until
from trainables.storage import Storage

pytestmark = pytest.mark.slow

SELECTION = ["--scale", "smoke", "--methods", "scratch_adm,hybrid_ft,hybrid_ledm"]
SELECTION += ["--targets", "ph2,montgomery", "--seeds", "0,1"]
RUNS = 14


def command(*arguments):
    return [sys.executable, "-m", "orchestrator.cli", *map(str, arguments)]


def hdsweep(*arguments, machine, exit_code=0):
    """Run a command on a machine, which is its cache; return what it printed."""
    environment = {**os.environ, "HDSWEEP_CACHE": str(machine), "COLUMNS": "200"}
    done = subprocess.run(
        command(*arguments),
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment,
    )
    assert done.returncode == exit_code, done.stderr[-3000:]
    return done


def last_line(done):
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def killed_once(condition, *arguments, machine):
    """Start a driver and kill it as soon as the condition holds."""
    driver = subprocess.Popen(
        command(*arguments),
        env={**os.environ, "HDSWEEP_CACHE": str(machine)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_until(condition, driver)
    yield driver
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()


def artifact_in_ui(home, run, path, *, machine):
    """Return an artifact as `hdsweep ui` shows it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "HDSWEEP_CACHE": str(machine)}
    with subprocess.Popen(
        command("ui", "--home", home, "--port", port),
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            url = server.stdout.readline().strip()
            with urllib.request.urlopen(
                f"{url}/get-artifact?path={path}&run_uuid={run}"
            ) as answer:
                return answer.read().decode()
        finally:
            server.terminate()


def test_another_machine_goes_on_and_the_table_is_that_of_a_folder(bucket, tmp_path):
    home = bucket("group/home")
    one, other = tmp_path / "one", tmp_path / "other"

    def some_are_stored():
        names = Storage(home).all("artifacts")
        return sum(name.endswith("/result.json") for name in names) >= 4

    sweep = ("run", "table2", *SELECTION, "--home", home, "--workers", 2)
    with killed_once(some_are_stored, *sweep, machine=one):
        # While it lives, nobody else may write: it is told who does.
        told = hdsweep(*sweep, machine=other, exit_code=2).stderr
        assert "is used by another sweep: process" in told
    resumed = last_line(hdsweep(*sweep, "--json", machine=other))
    assert resumed["finished"] + resumed["reused"] == resumed["planned"] == RUNS
    assert resumed["reused"] >= 4
    local = tmp_path / "folder"
    hdsweep("run", "table2", *SELECTION, "--home", local, machine=one)
    compared = hdsweep("compare", home, local, machine=one)
    assert "every value is the same to the last bit" in compared.stdout

    names = set(Storage(home).all())
    assert not [name for name in names if name.startswith(("attempts/", "checkpoints/", "lease"))]
    assert {"mlflow.db", "VERSION"} <= names
    third = tmp_path / "third"
    again = last_line(hdsweep(*sweep, "--json", machine=third))
    assert (again["reused"], again["finished"]) == (RUNS, 0)
    # Only what is small came along; weights and images come when something reads them.
    assert not list(third.rglob("weights.safetensors"))
    told = hdsweep(
        "reproduce", "hybrid_ft/ph2/1", "--scale", "smoke", "--home", home, machine=third
    )
    assert "bit-identical" in told.stdout
    shown = hdsweep(
        "data", "verify", "ph2-like", "--image-size", 16, "--home", home, machine=third
    )
    assert "content as it was prepared" in shown.stdout
    report = artifact_in_ui(home, resumed["table"].split("/")[-3], "report.html", machine=third)
    assert report.startswith("<!DOCTYPE html>")


def test_a_search_goes_on_from_states_in_the_store(bucket, tmp_path):
    search = ("tune", "lambda", "--scale", "smoke", "--source", "isic2018", "--trials", 3)
    search += ("--workers", 1, "--json")
    home, folder = bucket("home"), tmp_path / "folder"
    found = last_line(hdsweep(*search, "--home", home, machine=tmp_path / "one"))
    expected = last_line(hdsweep(*search, "--home", folder, machine=tmp_path / "one"))
    assert found["best"] == expected["best"]
    assert Storage(home).all("tuning/states") == {}
    again = last_line(hdsweep(*search, "--home", home, machine=tmp_path / "other"))
    assert again["best"] == expected["best"]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("s3://nobody-made-this/home{query}", "bucket does not exist"),
        ("s3://bucket/home?endpoint_override=127.0.0.1:9&scheme=http", "onnect"),
        ("s3://key:secret@bucket/home", "must not hold keys"),
        ("s3://bucket/home?colour=red", "colour"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_clear_line(bucket, tmp_path, address, why):
    address = address.format(query="?" + bucket("x").partition("?")[2])
    sweep = ("run", "table2", *SELECTION, "--home", address)
    told = hdsweep(*sweep, machine=tmp_path, exit_code=2).stderr
    (line,) = (line for line in told.splitlines() if line.startswith("error:"))
    assert why in line
    assert "secret" not in told
