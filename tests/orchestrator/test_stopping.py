"""Signals that ask to stop: what is taken for one asking, and the exit status of whatever they end."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from orchestrator.process.stopping import ASKING, StopFlag, StoppedError, stopped_by_signals

# A command that is in the middle of something, in the command line that hdsweep is made with.
BUSY = """
import sys, time
from pathlib import Path
import typer
from orchestrator.process.stopping import run_until_asked
app = typer.Typer()
@app.command()
def busy(folder: Path):
    try:
        print("busy", flush=True)
        time.sleep(60)
    finally:
        (folder / "tidied").touch()
        print("a line for whoever still reads")
run_until_asked(app)
"""


def busy(folder, *prefix, **how):
    command = [*prefix, sys.executable, "-c", BUSY, folder]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **how)
    assert process.stdout.readline() == b"busy\n"
    return process


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_command_puts_things_in_order_and_tells_which_signal_it_was(number, status, tmp_path):
    process = busy(tmp_path)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert (tmp_path / "tidied").exists()
    assert b"Traceback" not in said


def test_nohup_means_that_a_closed_terminal_ends_nothing(tmp_path):
    process = busy(tmp_path, "nohup", stdin=subprocess.DEVNULL)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


def test_what_is_printed_to_a_closed_terminal_is_no_error(tmp_path):
    ours, theirs = pty.openpty()
    command = ["setsid", "--ctty", "--wait", sys.executable, "-c", BUSY, tmp_path]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert os.read(ours, 100).startswith(b"busy")
    os.close(ours)
    assert process.wait(timeout=60) == 129
    assert (tmp_path / "tidied").exists()


@pytest.fixture
def stop(tmp_path):
    return StopFlag(tmp_path / "stop")


@pytest.mark.parametrize("number", ASKING)
def test_the_first_drains_and_says_so_once(number, stop):
    said = []
    with stopped_by_signals(stop, said.append):
        signal.raise_signal(number)
        assert stop.draining
        assert stop.file.exists()
    assert len(said) == 1
    assert stop.number == number


@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGTERM, signal.SIGTERM),  # `timeout`: to the process, and to its group.
        (signal.SIGHUP, signal.SIGHUP),  # The shell, and the kernel.
        (signal.SIGTERM, signal.SIGHUP),  # The end of a session of systemd.
        (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP),
    ],
)
def test_one_asking_that_comes_in_several_signals_is_one(numbers, stop):
    with stopped_by_signals(stop, lambda _: None):
        for number in numbers:
            signal.raise_signal(number)
    assert stop.number == numbers[0]


@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGINT, signal.SIGTERM),
    ],
)
def test_a_second_asking_ends_at_once(numbers, stop):
    first, second = numbers
    with stopped_by_signals(stop, lambda _: None):
        signal.raise_signal(first)
        with pytest.raises(StoppedError) as stopped:
            signal.raise_signal(second)
    assert stopped.value.number == second


def test_a_signal_that_comes_while_the_first_is_told_of_is_the_same(stop):
    # `timeout -s INT` sends it twice within microseconds.
    with stopped_by_signals(stop, lambda _: signal.raise_signal(signal.SIGINT)):
        signal.raise_signal(signal.SIGINT)
    assert stop.draining


def test_a_disk_on_which_nothing_can_be_written_does_not_keep_it_from_stopping(tmp_path):
    stop = StopFlag(tmp_path / "stop")
    stop.file = tmp_path / "no" / "such" / "folder"
    with stopped_by_signals(stop, lambda _: None):
        signal.raise_signal(signal.SIGTERM)
    assert stop.draining


def test_afterwards_everything_is_as_it_was(stop):
    before = [signal.getsignal(each) for each in ASKING]
    with stopped_by_signals(stop, lambda _: None):
        pass
    assert [signal.getsignal(each) for each in ASKING] == before
