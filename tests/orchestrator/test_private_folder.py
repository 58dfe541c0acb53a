"""Temporary folders: nobody removes one from a process that lives, and none is left of a dead one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.process.private_folder import private_folder

# Killed, it has no chance to clean up.
KILLED = """
import os, sys
from pathlib import Path
from orchestrator.process.private_folder import private_folder
with private_folder("ray", Path(sys.argv[1])) as folder:
    (folder / "session").mkdir()
    print(folder, flush=True)
    os.kill(os.getpid(), 9)
"""
MANY = """
import sys
from pathlib import Path
from orchestrator.process.private_folder import private_folder
for _ in range(200):
    with private_folder("ray", Path(sys.argv[1])) as folder:
        (folder / "session").mkdir()
        assert (folder / "session").is_dir()
"""
ANOTHER = MANY.replace("200", "1")
OTHER_PROCESS_IDS = ("unshare", "--pid", "--fork", "--mount-proc")


def may_have_own_process_ids():
    if shutil.which("unshare") is None:
        return False
    return not subprocess.run([*OTHER_PROCESS_IDS, "true"], check=False).returncode


def test_it_is_private_and_goes_at_the_end(tmp_path):
    with private_folder("ray", tmp_path) as folder:
        (folder / "session").mkdir()
        assert folder.stat().st_mode & 0o077 == 0
        assert folder.name.startswith("hdsweep-ray-")
    assert not list(tmp_path.iterdir())


def test_that_of_a_killed_process_goes_with_the_next_one(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path], check=False, capture_output=True, text=True
    )
    left = Path(done.stdout.strip())
    assert left.is_dir()
    with private_folder("another", tmp_path):
        assert left.is_dir()  # Of another use.
    with private_folder("ray", tmp_path):
        assert not left.exists()


@pytest.mark.parametrize("name", ["hdsweep-ray-12345678", "hdsweep-new-12345678"])
def test_one_left_by_a_process_killed_before_it_could_lock_it_goes_too(name, tmp_path):
    (tmp_path / name / "session").mkdir(parents=True)
    with private_folder("ray", tmp_path):
        assert not (tmp_path / name).exists()


def test_what_only_looks_like_one_is_left_alone(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (tmp_path / "hdsweep-ray-link").symlink_to(mine)
    (tmp_path / "hdsweep-ray-file").touch()
    with private_folder("ray", tmp_path):
        pass
    assert {each.name for each in tmp_path.iterdir()} == {
        "mine",
        "hdsweep-ray-link",
        "hdsweep-ray-file",
    }


def test_many_at_once_do_not_take_each_other_s(tmp_path):
    # Each looks for what was left while others are between making and locking theirs.
    several = [subprocess.Popen([sys.executable, "-c", MANY, tmp_path]) for _ in range(4)]
    assert [each.wait() for each in several] == [0, 0, 0, 0]
    assert not list(tmp_path.iterdir())


def test_one_in_another_container_is_left_alone(tmp_path):
    # Which shares the folder above with it, and in which no process has the id of the first.
    if not may_have_own_process_ids():
        pytest.skip("nobody may have process ids of their own here")
    with private_folder("ray", tmp_path) as folder:
        (folder / "session").mkdir()
        command = [*OTHER_PROCESS_IDS, sys.executable, "-c", ANOTHER, tmp_path]
        subprocess.run(command, check=True)
        assert (folder / "session").is_dir()
