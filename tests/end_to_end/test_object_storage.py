"""A home in an object store: the command line as a user runs it, against an S3 API on loopback.

A driver is killed in the middle and another machine goes on, which has nothing but the address.
"""

import json
import os
import signal
import socket
import subprocess
import urllib.request
from contextlib import contextmanager

import pytest

from tests.command_line import command, hdsweep
from tests.end_to_end.processes import wait_until
from trainables.storage import Storage

pytestmark = pytest.mark.slow

SELECTION = ["--scale", "smoke", "--methods", "scratch_adm,hybrid_ft,hybrid_ledm"]
SELECTION += ["--targets", "ph2,montgomery", "--seeds", "0,1"]
RUNS = 14


def on(machine, *arguments, exit_code=0):
    """Make a call on a machine, which is its cache; return standard output and standard error."""
    return hdsweep(*arguments, exit_code=exit_code, HDSWEEP_CACHE=str(machine), COLUMNS="200")


def record_on(machine, *arguments):
    """Make a call on a machine and return the JSON that it ends with."""
    out, _ = on(machine, *arguments)
    return json.loads(out.splitlines()[-1])


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
    wait_until(condition, driver, pause_s=0.1)  # Each time, the store lists what it has.
    yield driver
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()


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
        _, told = on(other, *sweep, exit_code=2)
        assert "is used by another sweep: process" in told
    resumed = record_on(other, *sweep, "--json")
    assert resumed["finished"] + resumed["reused"] == resumed["planned"] == RUNS
    assert resumed["reused"] >= 4
    local = tmp_path / "folder"
    on(one, "run", "table2", *SELECTION, "--home", local)
    out, _ = on(one, "compare", home, local)
    assert "every value is the same to the last bit" in out

    names = set(Storage(home).all())
    assert not [name for name in names if name.startswith(("attempts/", "checkpoints/", "lease"))]
    assert {"mlflow.db", "VERSION"} <= names
    third = tmp_path / "third"
    again = record_on(third, *sweep, "--json")
    assert (again["reused"], again["finished"]) == (RUNS, 0)
    # Only what is small came along; weights and images come when something reads them.
    assert not list(third.rglob("weights.safetensors"))
    out, _ = on(third, "reproduce", "hybrid_ft/ph2/1", "--scale", "smoke", "--home", home)
    assert "bit-identical" in out
    out, _ = on(third, "data", "verify", "ph2-like", "--image-size", 16, "--home", home)
    assert "content as it was prepared" in out
    report = artifact_in_ui(home, resumed["table"].split("/")[-3], "report.html", machine=third)
    assert report.startswith("<!DOCTYPE html>")


def test_a_search_goes_on_from_states_in_the_store(bucket, tmp_path):
    search = ("tune", "lambda", "--scale", "smoke", "--source", "isic2018", "--trials", 3)
    search += ("--workers", 1, "--json")
    home, folder = bucket("home"), tmp_path / "folder"
    found = record_on(tmp_path / "one", *search, "--home", home)
    expected = record_on(tmp_path / "one", *search, "--home", folder)
    assert found["best"] == expected["best"]
    assert Storage(home).all("tuning/states") == {}
    again = record_on(tmp_path / "other", *search, "--home", home)
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
    _, told = on(tmp_path, *sweep, exit_code=2)
    (line,) = (line for line in told.splitlines() if line.startswith("error:"))
    assert why in line
    assert "secret" not in told
