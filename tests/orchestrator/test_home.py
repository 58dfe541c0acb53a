"""The home folder is its owner's, is used by one driver, and says what is wrong with it."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import InputError
from orchestrator.plan.plan import load_plan
from orchestrator.store.home.home import holder, locked, open_home
from orchestrator.verbs.status import render_status, status_of
from tests.unprivileged import another, unprivileged


def modes(root):
    return {
        stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")] if path.is_dir()
    }


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_everything_is_the_owners_whatever_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        home = open_home(tmp_path / "home")
        (home.logs / "written-later.log").write_text("by MLflow or a worker")
    finally:
        os.umask(before)
    assert modes(home.path) == {0o700}
    files = [path for path in home.path.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_newer_layout_is_refused(tmp_path):
    open_home(tmp_path)
    (tmp_path / "VERSION").write_text("99\n")
    with pytest.raises(InputError, match="layout version 99, this hdsweep knows 1"):
        open_home(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    # /proc refuses new folders to everybody, root included.
    with pytest.raises(InputError, match="home folder `/proc/hdsweep` cannot be written"):
        open_home(Path("/proc/hdsweep"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_folder_is_named(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(InputError, match="is full: 4 MiB left"):
            open_home(small)
    finally:
        subprocess.run(["umount", str(small)], check=True)


HOLD = """
import sys, time
from pathlib import Path
from orchestrator.store.home.home import locked, open_home
with locked(open_home(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other_driver(tmp_path):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    yield other
    other.kill()
    other.wait()
    other.stdout.close()


def test_a_second_driver_is_refused_and_told_who_the_first_is(tmp_path, other_driver):
    home = open_home(tmp_path)
    with (
        pytest.raises(InputError, match=f"another sweep: process {other_driver.pid} on"),
        locked(home),
    ):
        pass
    assert holder(home)["pid"] == str(other_driver.pid)


def test_a_lock_that_may_not_be_read_tells_nothing_and_not_that_nobody_drives(
    tmp_path, other_driver
):
    home = open_home(tmp_path)
    assert home.driver_is_told
    (tmp_path / "lock").chmod(0)
    another(tmp_path / "lock")
    with unprivileged():
        assert home.driver is None
        assert not home.driver_is_told
        plan = load_plan("cxr_small", scale="smoke", methods="scratch_adm")
        (shown, *_) = [str(line) for line in render_status(status_of(plan, home)).renderables[2:]]
    assert shown == (
        "whether a sweep is running in this home is not known: its file `lock` may not be read"
    )


def test_the_lock_of_a_killed_driver_is_free(tmp_path, other_driver):
    os.kill(other_driver.pid, signal.SIGKILL)
    other_driver.wait()
    home = open_home(tmp_path)
    assert holder(home) is None
    with locked(home):
        pass


def test_the_lock_can_be_taken_again(tmp_path):
    home = open_home(tmp_path)
    for _ in range(2):
        with locked(home):
            pass
    assert holder(home) is None
