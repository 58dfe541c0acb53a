"""`hdsweep doctor` sees what is wrong, says what would mend it, and changes nothing."""

import collections
import io
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cluster.hardware import Gpu
from orchestrator.store.home.home import locked, open_home
from orchestrator.verbs import doctor
from orchestrator.verbs.doctor import Check, diagnose, render
from tests.command_line import command
from tests.documents import document

ROOT = Path(__file__).parents[2]
Usage = collections.namedtuple("Usage", "total used free")


@pytest.fixture
def home(tmp_path):
    return open_home(tmp_path / "home")


@pytest.fixture(autouse=True)
def token(tmp_path, monkeypatch):
    """Look at a token of ours: the machine's own may be in any state."""
    path = tmp_path / "token"
    path.touch(mode=0o600)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    return path


def found(home, name):
    (check,) = [check for check in diagnose(home) if check.name == name]
    return check


def test_a_fresh_home_has_nothing_to_mend(home):
    about_home = {"Python", "packages", "home", "file modes", "Ray token"}
    failed = [check for check in diagnose(home.path) if check.status == "fail"]
    assert not [check for check in failed if check.name in about_home]


def test_whatever_is_not_fine_has_a_hint(home):
    for check in diagnose(home.path):
        assert (check.status == "ok") == (not check.hint), check


def test_looking_makes_nothing(tmp_path):
    before = set(tmp_path.iterdir())
    check = found(tmp_path / "not" / "there", "home")
    assert check.status == "ok"
    assert "made by the first run" in check.detail
    assert set(tmp_path.iterdir()) == before


def test_packages_too_old_or_missing_are_named_with_what_is_needed(home, monkeypatch):
    real = doctor._version
    versions = {"torch": "1.13.1", "mlflow": None}
    monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name, real(name)))
    check = found(home.path, "packages")
    assert check.status == "fail"
    assert "torch 1.13.1 (>=" in check.detail
    assert "mlflow missing" in check.detail
    assert "constraints.txt" in check.hint


def test_a_package_other_than_the_tried_one_is_a_warning(home, monkeypatch):
    monkeypatch.setattr(doctor, "_pinned", lambda: {"rich": "0.0.1"})
    check = found(home.path, "packages")
    assert check.status == "warn"
    assert "(tried with 0.0.1)" in check.detail


def test_a_build_for_another_device_is_the_same_version(home, monkeypatch):
    real = doctor._version
    torch = real("torch").partition("+")[0]
    monkeypatch.setattr(doctor, "_pinned", lambda: {"torch": torch})
    monkeypatch.setattr(doctor, "_version", lambda n: f"{torch}+cpu" if n == "torch" else real(n))
    assert found(home.path, "packages").status == "ok"


def test_a_home_that_not_even_root_can_make_is_told_of():
    # /proc says that root may write to it, and takes no folder from anybody.
    check = found(Path("/proc/hdsweep/home"), "home")
    assert (check.status, check.detail) == ("fail", "/proc/hdsweep/home cannot be made")


def test_a_home_that_is_a_file_cannot_be_used(tmp_path):
    (tmp_path / "home").touch(mode=0o600)
    assert found(tmp_path / "home", "home").status == "fail"


def test_a_home_of_a_newer_version_cannot_be_used(home):
    (home.path / "VERSION").write_text("99\n")
    check = found(home.path, "home")
    assert check.status == "fail"
    assert "layout version 99" in check.detail


def test_a_home_in_use_is_fine_and_says_so(home):
    with locked(home):
        check = found(home.path, "home")
    assert check.status == "ok"
    assert "in use by process" in check.detail


@pytest.mark.parametrize("name", ["", "mlflow.db", "logs/attempt.log"])
def test_what_others_can_read_is_named_with_the_command_that_closes_it(home, name):
    path = home.path / name
    if name:
        path.touch(mode=0o600)
    assert found(home.path, "file modes").status == "ok"
    path.chmod(0o755)
    check = found(home.path, "file modes")
    assert check.status == "fail"
    assert check.hint == f"chmod go= {path}"
    subprocess.run(check.hint, shell=True, check=True)
    assert found(home.path, "file modes").status == "ok"


def test_a_token_that_others_can_read_is_named(home, token):
    token.chmod(0o644)
    assert str(token) in found(home.path, "file modes").detail


@pytest.mark.parametrize(("free", "status"), [(50e6, "fail"), (2e9, "warn"), (50e9, "ok")])
def test_disk_space_runs_short_before_it_runs_out(home, monkeypatch, free, status):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1e12, 1e12 - free, free))
    assert found(home.path, "disk").status == status


@pytest.mark.parametrize(("build", "status"), [("2.15.0+cpu", "fail"), ("2.15.0+cu130", "ok")])
def test_a_gpu_that_this_pytorch_cannot_use_is_a_failure(home, monkeypatch, build, status):
    real = doctor._version
    monkeypatch.setattr(doctor, "gpus", lambda: (Gpu("NVIDIA H200", 150.8),))
    monkeypatch.setattr(doctor, "_version", lambda n: build if n == "torch" else real(n))
    check = found(home.path, "GPU")
    assert check.status == status
    assert "NVIDIA H200" in check.detail


def test_ray_without_authentication_is_a_failure(home, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert found(home.path, "Ray token").status == "fail"


@pytest.mark.parametrize(
    ("family", "host", "status"),
    [
        (socket.AF_INET, "127.0.0.1", "ok"),
        (socket.AF_INET, "0.0.0.0", "fail"),
        (socket.AF_INET6, "::1", "ok"),
        (socket.AF_INET6, "::", "fail"),
        (socket.AF_INET6, "::ffff:127.0.0.1", "ok"),
    ],
)
def test_a_ui_is_exposed_unless_it_listens_on_a_loopback_address(
    home, monkeypatch, family, host, status
):
    with socket.socket(family) as server:
        try:
            server.bind((host, 0))
        except OSError:
            pytest.skip(f"no {host} on this machine")
        server.listen()
        # A free port stands for that of a UI, which may be in use on this machine.
        monkeypatch.setattr(doctor, "PORTS", {server.getsockname()[1]: "the UI"})
        assert found(home.path, "ports").status == status


def test_generated_datasets_do_not_count_as_prepared(tiny):
    assert found(tiny.home, "datasets").status == "warn"


def test_weights_are_found_by_name(home):
    check = found(home.path, "ImageNet weights")
    assert check.status == "warn"
    assert "resnet50, mit_b3" in check.detail
    for name in ("resnet50.pth", "mit_b3.safetensors"):
        (home.weights / name).touch()
    assert found(home.path, "ImageNet weights").status == "ok"


def test_brackets_in_a_path_are_not_taken_for_markup():
    stream = io.StringIO()
    check = Check("home", "warn", "/data/[bold]/home", "choose [another]")
    Console(file=stream, width=80).print(render([check]))
    assert "/data/[bold]/home" in stream.getvalue()
    assert "hint: choose [another]" in stream.getvalue()


def test_the_command_fails_exactly_if_a_check_does(home):
    call = command("doctor", "--json", "--home", home.path)

    def run():
        done = subprocess.run(call, cwd=ROOT, check=False, capture_output=True, text=True)
        checks = document(done.stdout)["checks"]
        assert done.returncode == any(check["status"] == "fail" for check in checks)
        return done.returncode

    run()
    home.path.chmod(0o755)
    assert run() == 1
