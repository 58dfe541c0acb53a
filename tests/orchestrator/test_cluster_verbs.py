"""`hdsweep cluster`, as far as it goes without machines; with them: tests/cluster."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from orchestrator.cluster.launch.cluster_file import problems
from orchestrator.cluster.launch.head import Cluster
from orchestrator.cluster.launch.jobs import End, name_of
from orchestrator.cluster.session.token import private_token
from tests.command_line import command

FILE = Path(__file__).parents[2] / "cluster" / "on_prem.yaml"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def cluster(*arguments):
    return subprocess.run(
        command("cluster", *arguments), check=False, capture_output=True, text=True
    )


def changed(tmp_path, change):
    content = yaml.safe_load(FILE.read_text())
    change(content)
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def unreachable(tmp_path):
    """A file whose head is behind a proxy that lets nobody through."""
    return changed(tmp_path, lambda c: c["auth"].update(ssh_proxy_command="false"))


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_token_is_its_owners_alone_whatever_the_mask(home):
    before = os.umask(0)
    try:
        token = private_token()
    finally:
        os.umask(before)
    assert token == home / ".ray" / "auth_token"
    assert (mode(token), mode(token.parent)) == (0o600, 0o700)
    assert len(bytes.fromhex(token.read_text())) == 32


def test_a_token_that_is_there_stays_and_is_closed_to_others(home):
    (home / ".ray").mkdir(mode=0o755)
    (home / ".ray" / "auth_token").write_text("mine")
    (home / ".ray" / "auth_token").chmod(0o644)
    token = private_token()
    assert (token.read_text(), mode(token), mode(token.parent)) == ("mine", 0o600, 0o700)


def test_a_file_is_whole_without_a_token_that_up_will_make():
    assert problems(FILE) == []


def test_up_refuses_what_validate_finds_and_touches_nothing(home, tmp_path):
    file = changed(tmp_path, lambda c: c["provider"].update(worker_ips=["192.0.2.10"]))
    done = cluster("up", file)
    assert done.returncode == 2
    assert "provider.worker_ips: 192.0.2.10 is the head" in done.stderr
    assert not (home / ".ray").exists()


@pytest.mark.parametrize(
    "arguments", [("up",), ("status",), ("logs",), ("submit", "--", "run", "table2")]
)
def test_a_head_that_lets_nobody_in_is_one_line(unreachable, arguments):
    verb, *rest = arguments
    done = cluster(verb, unreachable, *rest)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line.startswith("error: cannot log in to the head 192.0.2.10 as ubuntu: ")


def test_a_verb_that_does_not_exist_is_told_before_anybody_is_asked(unreachable):
    done = cluster("submit", unreachable, "--", "rnu", "table2")
    assert done.returncode == 2
    assert "hdsweep has no verb `rnu`" in done.stderr


def test_files_for_containers_are_refused(tmp_path):
    file = changed(tmp_path, lambda c: c.update(docker={"image": "x", "container_name": "y"}))
    done = cluster("status", file)
    assert done.returncode == 2
    assert "docker: `hdsweep cluster` talks to machines" in done.stderr


def test_a_file_without_a_provider_is_refused(tmp_path):
    done = cluster("status", changed(tmp_path, lambda c: c.pop("provider")))
    assert done.returncode == 2
    assert "provider.type is missing" in done.stderr


@pytest.mark.parametrize(
    ("state", "code", "status"),
    [
        ("SUCCEEDED", 0, 0),
        ("RUNNING", None, 0),
        ("FAILED", 2, 2),
        ("FAILED", 130, 130),
        ("FAILED", -9, 137),  # As a shell tells a process that SIGKILL ended.
        ("FAILED", None, 1),  # Its machine went.
        ("STOPPED", None, 1),
        ("STOPPED", 0, 1),
    ],
)
def test_the_exit_status_is_that_of_the_job(state, code, status):
    assert End(state, code, "").status == status


def test_a_job_is_named_after_what_it_does():
    noon = 1_795_780_800  # 2026-11-27 12:00:00 UTC.
    assert name_of(["run", "./my study.toml", "--seeds", "0"], noon) == (
        "run-my-study-toml-20261127-120000"
    )
    assert name_of(["doctor", "--json"], noon) == "doctor-20261127-120000"


def test_how_many_workers_there_have_to_be():
    machines = {"type": "local", "worker_ips": ["192.0.2.1", "192.0.2.2"]}
    assert Cluster(FILE, {"provider": machines}).least_workers == 2
    assert Cluster(FILE, {"provider": machines, "min_workers": 1}).least_workers == 1
    types = {"head": {}, "spot": {"min_workers": 0}, "fixed": {"min_workers": 3}}
    cloud = {
        "provider": {"type": "aws"},
        "head_node_type": "head",
        "available_node_types": types,
    }
    assert Cluster(FILE, cloud).least_workers == 3
