"""The private folder of Ray: nobody removes it from a driver that lives, and none is left of a dead one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.ray_session import _private_folder

# Killed, it has no chance to clean up.
KILLED = """
import os
from orchestrator.ray_session import _private_folder
with _private_folder() as folder:
    (folder / "session").mkdir()
    print(folder, flush=True)
    os.kill(os.getpid(), 9)
"""
ANOTHER = """
from orchestrator.ray_session import _private_folder
with _private_folder():
    pass
"""
OTHER_PROCESS_IDS = ("unshare", "--pid", "--fork", "--mount-proc")


def may_have_own_process_ids():
    if shutil.which("unshare") is None:
        return False
    return not subprocess.run([*OTHER_PROCESS_IDS, "true"], check=False).returncode


def test_it_is_private_and_goes_at_the_end():
    with _private_folder() as folder:
        (folder / "session").mkdir()
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_that_of_a_killed_driver_goes_with_the_next_one():
    done = subprocess.run(
        [sys.executable, "-c", KILLED], check=False, capture_output=True, text=True
    )
    left = Path(done.stdout.strip())
    assert left.is_dir()
    with _private_folder():
        assert not left.exists()


def test_a_driver_leaves_that_of_one_in_another_container_alone():
    # Which shares /tmp with it, and in which no process has the id of the first.
    if not may_have_own_process_ids():
        pytest.skip("nobody may have process ids of their own here")
    with _private_folder() as folder:
        (folder / "session").mkdir()
        subprocess.run([*OTHER_PROCESS_IDS, sys.executable, "-c", ANOTHER], check=True)
        assert (folder / "session").is_dir()
