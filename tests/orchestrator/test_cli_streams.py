"""Standard output is data, standard error is talk, and the exit status says how it went."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.store.home.home import locked, open_home
from tests.command_line import command
from tests.documents import document

ROOT = Path(__file__).parents[2]
ONE_RUN = ["--methods", "scratch_adm", "--targets", "ph2", "--seeds", "0"]

# The whole command in a fresh interpreter, which then tells what it has imported.
IMPORTS = """
import atexit, sys
atexit.register(lambda: print(*sorted({n.split(".")[0] for n in sys.modules}), file=sys.stderr))
from orchestrator.cli import main
main()
"""


def hdsweep(*arguments):
    return subprocess.run(
        command(*arguments), check=False, capture_output=True, text=True, timeout=180, cwd=ROOT
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["plan", "table2", "--json"],
        ["plan", "table2", "--gpus", "8"],
        ["doctor"],
        ["data", "list"],
    ],
)
def test_saying_what_would_happen_imports_nothing_heavy(tmp_path, arguments):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"HDSWEEP_HOME": str(tmp_path / "home")},
    )
    imported = set(done.stderr.split())
    assert "orchestrator" in imported
    assert not imported & {"torch", "ray", "mlflow", "numpy", "pandas", "pyarrow", "matplotlib"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["rnu"],
        ["run"],
        ["run", "table2", "--retires", "1"],
        ["run", "table2", "--retries", "-1"],
        ["run", "table2", "--workers", "many"],
        ["ui", "--port", "0"],
    ],
)
def test_wrong_usage_ends_with_status_2_and_no_data(arguments):
    done = hdsweep(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_a_home_in_use_is_refused_with_who_uses_it(tmp_path):
    home = open_home(tmp_path / "home")
    with locked(home):
        done = hdsweep("reconcile", "--home", home.path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert f"used by another sweep: process {os.getpid()}" in done.stderr
    assert "hint: " in done.stderr


def test_status_names_who_drives_the_home(tmp_path):
    home = open_home(tmp_path / "home")
    with locked(home):
        done = hdsweep("status", "table2", "--scale", "smoke", "--json", "--home", home.path)
    status = document(done.stdout)
    assert status["driver"]["pid"] == str(os.getpid())
    assert status["seconds_left"] > 0
    assert status["stages"]["pretraining"]["waiting"] == 15
    assert status["generated"]


def test_a_damaged_database_says_how_to_make_it_anew(tmp_path):
    home = open_home(tmp_path / "home")
    home.database.write_bytes(b"not a database" * 100)
    done = hdsweep("status", "table2", "--home", home.path)
    assert done.returncode == 2
    assert "cannot be read" in done.stderr
    assert "hint: `hdsweep reconcile --rebuild`" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command("plan", "table2", "--json", "--home", tmp_path),
        check=False,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    os.close(writer)
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_with_json_standard_output_is_one_object_and_progress_has_no_escapes(tmp_path):
    options = ["--scale", "smoke", "--keep-weights", "--json", "--home", tmp_path]
    done = hdsweep("run", "table2", *ONE_RUN, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = done.stdout.splitlines()
    summary = document(line)
    assert (summary["planned"], summary["reused"], summary["finished"]) == (1, 0, 1)
    assert (summary["failed"], summary["blocked"], summary["interrupted"]) == (0, 0, False)
    assert summary["seconds"] > 0
    assert (Path(summary["table"]) / "table.md").is_file()
    assert len(list(tmp_path.glob("artifacts/*/*/weights.safetensors"))) == 1
    assert "1/1 finished scratch_adm ph2-like seed 0" in done.stderr
    assert not {"\x1b", "\r"} & set(done.stderr)


@pytest.mark.slow
def test_a_sweep_whose_reader_goes_away_is_stored_all_the_same(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    arguments = ["run", "table2", "--scale", "smoke", *ONE_RUN, "--home", tmp_path]
    subprocess.run(command(*arguments), check=False, stdout=writer, stderr=writer, cwd=ROOT)
    os.close(writer)
    done = hdsweep("status", "table2", "--scale", "smoke", *ONE_RUN, "--json", "--home", tmp_path)
    assert document(done.stdout)["finished"] == 1


@pytest.mark.slow
def test_sigterm_drains_and_says_how_to_go_on(tmp_path):
    # One run that would go on for hours, so that it is running whenever the signal comes.
    endless = ["--set", "fine_tuning.max_epochs=1000000", "--set", "fine_tuning.patience=1000000"]
    arguments = ["run", "table2", "--scale", "smoke", *ONE_RUN, *endless, "--home", tmp_path]
    process = subprocess.Popen(
        command(*arguments), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    said = ""
    try:
        while " started " not in said:
            line = process.stderr.readline()
            assert line, f"the sweep ended before it could be stopped:\n{said}"
            said += line
        process.send_signal(signal.SIGTERM)
        said += process.communicate(timeout=180)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 143, said[-3000:]
    assert "Ctrl-C again stops at once" in said
    assert "the same command goes on where it stopped" in said
    assert list(tmp_path.glob("checkpoints/*/*"))


def test_an_interrupt_while_the_command_is_read_in_is_no_traceback():
    # Whatever is imported first, the interrupt comes in its middle.
    code = (
        "import sys, runpy\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'orchestrator.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "runpy.run_module('orchestrator', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (130, "")
