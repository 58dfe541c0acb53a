"""The environment: what is set, taken out and passed on, and that this machine is never asked by proxy."""

import http.server
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import mlflow.environment_variables
import pytest
import ray.tune.constants

from orchestrator.process.environment import SET, find, settle
from tests.command_line import command
from tests.documents import document

ASK = """
import sys, urllib.request
from orchestrator.process.environment import settle
settle()
import requests
print(requests.get(sys.argv[1], timeout=20).text, urllib.request.urlopen(sys.argv[1]).read().decode())
"""


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize(
    ("value", "kept"), [("disabled", False), ("Disabled", False), ("token", True), ("k8s", True)]
)
def test_no_ray_is_used_without_a_token(value, kept):
    environment = {"RAY_AUTH_MODE": value}
    settle(environment)
    assert environment.get("RAY_AUTH_MODE") == (value if kept else None)
    assert what("RAY_AUTH_MODE", value) == ("passed on" if kept else "not used")


def what(name, value="x"):
    (found,) = find({name: value})
    return found.rule.does


@pytest.mark.parametrize(
    ("name", "does"),
    [
        ("TUNE_RESULT_DIR", "not used"),
        ("TUNE_DISABLE_SIGINT_HANDLER", "set"),
        ("RAY_STORAGE", "not used"),
        ("RAY_ADDRESS", "passed on"),
        ("RAY_memory_usage_threshold", "passed on"),
        ("MLFLOW_TRACKING_URI", "not used"),
        ("MLFLOW_TRACKING_TOKEN", "passed on"),
        ("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "not used"),
        ("NVIDIA_TF32_OVERRIDE", "not used"),
        ("PYTORCH_CUDA_ALLOC_CONF", "passed on"),
        ("HDSWEEP_HOMES", "not used"),
        ("HDSWEEP_HOME", "passed on"),
        ("HTTP_PROXY", "passed on"),
    ],
)
def test_each_kind_is_handled_by_its_rule(name, does):
    assert what(name) == does


def test_whatever_the_libraries_say_that_they_read_has_a_rule():
    theirs = [name for name in dir(mlflow.environment_variables) if name.startswith("MLFLOW_")]
    theirs += re.findall(
        r'"((?:TUNE|RAY)_[A-Z_]+)"', Path(ray.tune.constants.__file__).read_text()
    )
    assert len(theirs) > 100
    assert {each.name for each in find(dict.fromkeys(theirs, "x"))} == set(theirs)


def test_settling_is_the_same_done_twice_and_leaves_the_rest_alone():
    environment = {
        "TUNE_RESULT_DIR": "x",
        "RAY_AUTH_MODE": "token",
        "MINE": "1",
        "no_proxy": "a.org",
    }
    settle(environment)
    assert environment == {"RAY_AUTH_MODE": "token", "MINE": "1", "no_proxy": "a.org", **SET}
    again = dict(environment)
    settle(again)
    assert again == environment


@pytest.mark.parametrize(
    ("told", "spared"),
    [
        ({}, "localhost,127.0.0.1,::1,127.0.0.0/8"),
        ({"no_proxy": "a.org, 127.0.0.1"}, "a.org,127.0.0.1,localhost,::1,127.0.0.0/8"),
        ({"NO_PROXY": ".lab", "no_proxy": "b"}, "b,.lab,localhost,127.0.0.1,::1,127.0.0.0/8"),
        ({"NO_PROXY": "*"}, "*"),
    ],
)
def test_this_machine_is_spared_the_proxy_and_nobody_else_is_forgotten(told, spared):
    environment = {"HTTPS_PROXY": "http://proxy.lab:3128", **told}
    settle(environment)
    assert environment["no_proxy"] == environment["NO_PROXY"] == spared


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"])
def test_a_server_on_this_machine_is_not_asked_through_the_proxy(name, server):
    clean = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    done = subprocess.run(
        [sys.executable, "-c", ASK, server],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**clean, name: "http://127.0.0.1:9"},
    )
    assert done.stdout == "here here\n", done.stderr[-2000:]


def test_doctor_lists_what_it_found_without_its_value(tmp_path):
    found = {"TUNE_RESULT_DIR": "/secret/place", "MLFLOW_TRACKING_TOKEN": "secret-token"}
    done = subprocess.run(
        command("doctor", "--json", "--home", tmp_path / "home"),
        check=False,  # The machine itself may have something to mend.
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | found,
    )
    checks = [each for each in document(done.stdout)["checks"] if each["name"] == "environment"]
    told, passed_on = ([c for c in checks if c["status"] == status] for status in ("warn", "ok"))
    assert "TUNE_RESULT_DIR is not used: " in told[0]["detail"]
    assert "TUNE_RESULT_DIR" in told[0]["hint"]
    assert "MLFLOW_TRACKING_TOKEN is passed on: " in passed_on[0]["detail"]
    assert "secret" not in done.stdout
