"""A sweep whose Ray loses a process of its own ends in one line, soon, and goes on when called again."""

import json
import os
import signal
import subprocess
import time

import pytest

from orchestrator.cluster.session.alive import require_ray_alive
from tests.command_line import PATIENCE_S, command, hdsweep
from tests.drill.processes import descendants
from tests.end_to_end.processes import wait_until

ONE = (
    "--scale",
    "smoke",
    "--methods",
    "scratch_adm",
    "--targets",
    "ph2",
    "--seeds",
    "0",
)
ENDLESS = ("--set", "fine_tuning.max_epochs=1000000", "--set", "fine_tuning.patience=1000000")


def test_without_a_ray_of_our_own_nothing_is_known_of_one():
    require_ray_alive()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [("raylet", "raylet"), ("gcs", "gcs_server")])
def test_a_lost_process_of_ray_ends_the_sweep_in_one_line(tmp_path, kind, name):
    errors = tmp_path / "errors"
    with errors.open("wb") as file:
        driver = subprocess.Popen(
            command("run", "table2", *ONE, *ENDLESS, "--home", tmp_path / "home"),
            stdout=subprocess.DEVNULL,
            stderr=file,
        )
    wait_until(lambda: " started " in errors.read_text(), driver)
    family = descendants(driver.pid)
    (process,) = [each for each in family if each.kind == kind]
    os.kill(process.pid, signal.SIGKILL)
    assert driver.wait(PATIENCE_S) == 1
    said = errors.read_text()
    assert f"error: Ray's `{name}` has ended (killed by signal 9)" in said
    assert "Traceback" not in said
    deadline = time.monotonic() + PATIENCE_S
    while any(each.alive() for each in family):
        assert time.monotonic() < deadline, [each for each in family if each.alive()]
        time.sleep(0.2)
    out, _ = hdsweep("run", "table2", *ONE, "--json", home=tmp_path / "home")
    assert json.loads(out.splitlines()[-1])["finished"] == 1
