"""The command that is stored and shown: nothing in it opens a door."""

import json
import sys

import pytest

from orchestrator.process.invocation import masked, shown, typed
from orchestrator.store.home.lease import ourselves

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "table2", "--scale", "smoke"], "hdsweep run table2 --scale smoke"),
        (
            ["run", "my study.toml", "--set", "a=[1, 2]"],
            "hdsweep run 'my study.toml' --set 'a=[1, 2]'",
        ),
        (["--notify", f"https://ntfy.sh/{SECRET}"], "hdsweep --notify 'https://ntfy.sh/***'"),
        ([f"--notify=https://me:{SECRET}@ntfy.sh/x"], "hdsweep '--notify=https://ntfy.sh/***'"),
        (["--notify", f"curl -d {SECRET}"], "hdsweep --notify 'curl ***'"),
        (["--notify", "beep", "--json"], "hdsweep --notify beep --json"),
        (
            ["--tracking-uri", f"https://me:{SECRET}@mlflow.example.org/x"],
            "hdsweep --tracking-uri 'https://***@mlflow.example.org/x'",
        ),
        (
            [f"--storage=postgresql://me:{SECRET}@db/optuna"],
            "hdsweep '--storage=postgresql://***@db/optuna'",
        ),
        (
            ["--home", f"s3://b/p?scheme=http&access_key={SECRET}&secret_key={SECRET}"],
            "hdsweep --home 's3://b/p?scheme=http&access_key=***&secret_key=***'",
        ),
        (["--home", "gs://anonymous@b/p"], "hdsweep --home gs://anonymous@b/p"),
        (
            ["weights", f"https://x.org/a?token={SECRET}#{SECRET}"],
            "hdsweep weights 'https://x.org/a?token=***'",
        ),
    ],
)
def test_secrets_are_masked_and_all_else_is_as_a_shell_takes_it(arguments, expected):
    assert shown(arguments) == expected
    assert SECRET not in shown(arguments)


def test_an_address_that_cannot_be_read_is_masked_whole():
    assert masked(f"https://[{SECRET}") == "https://***"


@pytest.mark.parametrize(
    ("program", "ours"),
    [
        ("/somewhere/bin/hdsweep", True),
        ("/somewhere/orchestrator/cli.py", True),
        ("/somewhere/orchestrator/__main__.py", True),
        ("/somewhere/pytest/__main__.py", False),
        ("", False),
    ],
)
def test_only_our_own_command_is_taken_for_one(monkeypatch, program, ours):
    monkeypatch.setattr(sys, "argv", [program, "run", "table2"])
    assert typed() == ("hdsweep run table2" if ours else None)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "/long/way/to/mine.toml", "--seeds", "1"], "hdsweep run mine.toml"),
        (["run", f"--tracking-uri=http://me:{SECRET}@lab:5000"], "http://***@lab:5000"),
        (["run", f"--notify=https://ntfy.sh/{SECRET}", "table2"], "https://ntfy.sh/***"),
        (["--notify", f"https://ntfy.sh/{SECRET}"], "--notify https://ntfy.sh/***"),
        (["run", f"--notify=curl {SECRET}"], "--notify=curl ***"),
    ],
)
def test_a_lock_says_who_holds_it_without_secrets(monkeypatch, arguments, expected):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/hdsweep", *arguments])
    assert expected in ourselves()["command"]
    assert SECRET not in json.dumps(ourselves())
