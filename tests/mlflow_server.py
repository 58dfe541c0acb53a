"""A tracking server of MLflow's own, on the loopback address."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextmanager
def server(folder, port):
    """Have a server running over the database in a folder; yields its process."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'lab.db'}"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | quiet, start_new_session=True
        )
    try:
        wait_until_it_answers(process, port)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # It has written what it has answered.
        process.wait(60)


def wait_until_it_answers(process, port):
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(600):
        assert process.poll() is None
        try:
            straight.open(f"http://127.0.0.1:{port}/health", timeout=2).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError("the server of MLflow does not answer")
