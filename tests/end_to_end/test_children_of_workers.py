"""Processes that a method starts for itself, in any way: they end when they are told to, as anywhere."""

import json
import textwrap

import pytest

from tests.command_line import hdsweep

METHOD = """
    import multiprocessing
    import os
    import signal
    import subprocess
    import sys
    import threading
    import time

    from torch.utils.data import DataLoader

    from trainables.methods import Method
    from trainables.pretraining.supervised import SupervisedPretraining

    PATIENCE_S = 120
    ASKING = (signal.SIGTERM, signal.SIGHUP)


    class Endless:
        def __len__(self):
            return 10**6

        def __getitem__(self, at):
            if at:
                time.sleep(10**6)
            return at


    def wait():
        time.sleep(10**6)


    def programs():
        for number in ASKING:
            program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10**6)"])
            program.send_signal(number)
            assert program.wait(PATIENCE_S) == -number
        sleep = subprocess.Popen(["sleep", "1000000"])
        sleep.terminate()
        assert sleep.wait(PATIENCE_S) == -signal.SIGTERM


    def processes():
        for number in (*ASKING, signal.SIGINT):
            process = multiprocessing.get_context("fork").Process(target=wait)
            process.start()
            os.kill(process.pid, number)
            process.join(PATIENCE_S)
            assert process.exitcode == -number, (number, process.exitcode)


    def readers():
        batches = iter(DataLoader(Endless(), num_workers=1))
        next(batches)
        (reader,) = batches._workers
        reader.terminate()
        reader.join(PATIENCE_S)
        # PyTorch has it end well; it would not have ended by itself.
        assert reader.exitcode == 0, reader.exitcode


    def in_a_thread(what):
        failed = []

        def run():
            try:
                what()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]


    class Starts(SupervisedPretraining):
        tried = False

        def shares(self, images_BCHW, labels_BHW):
            if not Starts.tried:
                programs()
                processes()
                readers()
                in_a_thread(programs)
                in_a_thread(processes)
                for number in (*ASKING, signal.SIGINT):
                    os.kill(os.getpid(), number)  # It goes on.
                Starts.tried = True
            return super().shares(images_BCHW, labels_BHW)


    METHODS = (
        Method(
            name="starting",
            title="Starting",
            network="adm",
            pretraining="starting:Starts",
            adaptation="finetune",
        ),
    )
"""

STUDY = """
    title = "mine"
    seeds = [0]
    scale = "smoke"
    method_files = ["starting.py"]
    methods = ["starting"]
    [sources.isic2018]
    targets = ["ph2"]
"""


@pytest.mark.slow
def test_what_a_method_starts_ends_when_it_is_told_to_and_its_worker_does_not(tmp_path):
    (tmp_path / "starting.py").write_text(textwrap.dedent(METHOD))
    study = tmp_path / "study.toml"
    study.write_text(textwrap.dedent(STUDY))
    told = ("run", study, "--retries", 0, "--workers", 1, "--json")
    out, err = hdsweep(*told, home=tmp_path / "home")
    done = json.loads(out.splitlines()[-1])
    assert (done["finished"], done["failed"]) == (2, 0), err
