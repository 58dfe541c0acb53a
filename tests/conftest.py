"""Shared by all tests: one CPU thread, a tiny prepared family of data, specs of tiny runs."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

# Before anything imports torch: the tests run two at a time on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SIDE = 16  # Pixels; the smallest that the tiny networks halve without a remainder.


@dataclass(frozen=True)
class Tiny:
    """A home with a prepared source and target, and specs of runs that take a second."""

    home: Path
    source: object
    target: object
    side: int = SIDE

    def spec(self, task, **changes):
        from trainables.config import PretrainedRef, RunSpec

        pretraining = task in ("diffusion", "hybrid", "supervised")
        data = self.source if pretraining else self.target
        pretrained = changes.pop("pretrained", None)
        if isinstance(pretrained, RunSpec):
            pretrained = PretrainedRef(
                key=pretrained.key, task=pretrained.task, classes=pretrained.dataset.classes
            )
        return RunSpec(
            stage="pretraining" if pretraining else "fine-tuning",
            task=task,
            network=changes.pop("network", self.adm),
            dataset=data.ref(self.side),
            seed=changes.pop("seed", 0),
            training=changes.pop("training", None) or self.training(task),
            pretrained=pretrained,
            **changes,
        )

    @property
    def adm(self):
        from trainables.config import AdmConfig

        return AdmConfig(
            channels=32,
            multipliers=(1, 2),
            blocks_per_level=1,
            attention_rates=(2,),
            head_channels=32,
        )

    def training(self, task):
        from trainables.config import (
            FineTuningConfig,
            LedmConfig,
            OptimizerConfig,
            PretrainingConfig,
            SamplingConfig,
        )

        if task in ("finetune", "finetune_validation"):
            return FineTuningConfig(
                train_images=8, batch=4, optimizer=OptimizerConfig(lr=1e-3), max_epochs=3
            )
        if task == "ledm":
            return LedmConfig(train_images=8, blocks=(0, 2), steps=(50, 250), max_iterations=30)
        return PretrainingConfig(
            updates=6,
            batch=8,
            optimizer=OptimizerConfig(lr=1e-3, warmup_updates=2),
            evaluate_every=3,
            log_every=2,
            sampling=SamplingConfig(images=2, steps=3),
        )

    def places(self, folder, task, pretrained=None):
        from trainables.loop import Places

        data = self.source if task in ("diffusion", "hybrid", "supervised") else self.target
        return Places(
            dataset=self.folder(data),
            checkpoints=folder / "checkpoints",
            artifacts=folder / "artifacts",
            pretrained=pretrained,
        )

    def folder(self, prepared):
        return self.home / "datasets" / f"{prepared.name}-{prepared.stored_side}"


@pytest.fixture(scope="session")
def family_of_data(tmp_path_factory):
    """Return a function that prepares a source and a target of a size."""
    from trainables.data.datasets import all_datasets
    from trainables.data.prepare import prepare

    def ready(side, *, source, target):
        home, data = tmp_path_factory.mktemp("home"), all_datasets()
        both = (("isic2018-like", source), ("ph2-like", target))
        return Tiny(
            home,
            *(prepare(data[n], None, home, image_size=side, images=images) for n, images in both),
            side,
        )

    return ready


@pytest.fixture(scope="session")
def tiny(family_of_data):
    return family_of_data(SIDE, source=20, target=16)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """Return a tracking database with its tables, which take MLflow seconds to create."""
    from orchestrator.store.home.home import open_home
    from orchestrator.store.store import Store

    home = open_home(tmp_path_factory.mktemp("empty"))
    with Store.open(home):
        return home.database


@pytest.fixture(scope="session")
def laboratory_folder(tmp_path_factory):
    """Return the folder of the database of an MLflow server, `lab.db`."""
    return tmp_path_factory.mktemp("laboratory")


@pytest.fixture(scope="session")
def laboratory(laboratory_folder):
    """Return the address of an MLflow server that several homes use."""
    from tests.mlflow_server import free_port, server

    port = free_port()
    with server(laboratory_folder, port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def real_data():
    """Return the folder of real images in official layouts, or skip."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("HDSWEEP_REAL_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set HDSWEEP_REAL_DATA")
    return folder


@pytest.fixture(scope="session")
def s3_server():
    """Run an S3 API on the loopback address; yield `host:port`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def google_server():
    """Run the API of Google Cloud Storage on the loopback address; yield `host:port`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # In a process of its own: Arrow keeps Python's lock while it waits for some of its answers.
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host=127.0.0.1"]
    process = subprocess.Popen(
        [*command, f"--port={port}", "--in-memory"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def google_bucket(google_server):
    """Make a bucket of its own; return a function from a prefix in it to an address."""
    name = f"bucket-{uuid4().hex}"
    made = urllib.request.Request(
        f"http://{google_server}/storage/v1/b?project=tests",
        data=json.dumps({"name": name}).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(made, timeout=20).close()
    query = f"endpoint_override={google_server}&scheme=http&retry_limit_seconds=5"
    return lambda prefix: f"gs://anonymous@{name}/{prefix}?{query}"


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """Make a bucket of its own; return a function from a prefix in it to an address."""
    import boto3

    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{uuid4().hex}"
    boto3.client("s3", endpoint_url=f"http://{s3_server}").create_bucket(Bucket=name)
    return lambda prefix: f"s3://{name}/{prefix}?endpoint_override={s3_server}&scheme=http"
