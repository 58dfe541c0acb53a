"""`hdsweep ui`: the MLflow server over a home folder, for the people on this machine only.

MLflow has no authentication here, so the server answers on the loopback address and to requests
that name it, and to nobody else. From another machine, tunnel to it with ssh.
"""

import contextlib
import importlib
import ipaddress
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qsl

from orchestrator.errors import HdsweepError, InputError
from orchestrator.store.home.home import Home
from orchestrator.store.home.read_only import copy_to, may_write
from orchestrator.store.tracking import artifact_locations, schema
from orchestrator.store.tracking.database import database_uri, unreadable
from orchestrator.store.tracking.training_view import addresses

START_SECONDS = 90.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.2

ENVIRONMENT = {
    # Its job runner is for features that need a language model, and starts processes of its own.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # What lies in the working directory is not imported.
    "PYTHONSAFEPATH": "1",
}


def serve(
    home: Path,
    *,
    port: int,
    host: str = "127.0.0.1",
    open_browser: bool = False,
    tell: Callable[[str], None],
    say: Callable[[str], None],
) -> int:
    """Serve the MLflow UI until it is interrupted; returns the exit status.

    Where a server keeps the runs of the home, only its address is told.

    Args:
        host: a loopback address or `localhost`.
        tell: takes the address once the server answers, then those of the report and of the runs.
        say: takes what there is to tell people before.

    Raises:
        InputError: if the host is reachable from elsewhere, the port is taken, or nothing has ever
            been stored in the home.
        HdsweepError: if the server does not start.
    """
    _refuse_open_hosts(host)
    opened = Home(home)
    if opened.tracking_uri:
        tell(opened.tracking_uri)  # A server that somebody else keeps running.
        return 0
    if not opened.exists():
        raise InputError(
            f"home folder `{home}` has nothing stored yet",
            hint="`hdsweep run table2 --scale demo`",
        )
    _refuse_taken_port(host, port)
    _require_client(opened)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    with (
        _places(opened, say) as (database, log),
        _asked_to_stop() as asked,
        _server(opened, database, host, port, log) as server,
    ):
        if _healthy(url, server, log, asked):
            first = _told(opened, database, url, tell)
            if open_browser:
                webbrowser.open(first)
        while server.poll() is None and not asked:
            time.sleep(POLL_SECONDS)
        return 0 if asked else server.returncode


def _refuse_open_hosts(host: str) -> None:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise InputError(
            f"host `{host}` is not a loopback address: the MLflow UI has no password",
            hint="leave --host out, and tunnel: `ssh -L 5000:127.0.0.1:5000 this-machine`",
        )


def _told(home: Home, database: Path, url: str, tell: Callable[[str], None]) -> str:
    """Tell the server's address, and those of what is worth opening; return the first of these."""
    tell(url)
    found = addresses(home, database)
    if found is None:
        return url
    told = {"report": found.report, "runs": found.runs}
    below = {what: f"{url}{place}" for what, place in told.items() if place}
    for what, address in below.items():
        tell(f"{what}: {address}")
    return next(iter(below.values()))


@contextlib.contextmanager
def _places(home: Home, say: Callable[[str], None]) -> Iterator[tuple[Path, Path]]:
    """Yield the database to be served, with the artifacts of a moved home found, and a file for the log.

    Where a home may only be read, of its database a copy is served.
    """
    if may_write(home.database):
        _mend(home, home.database, say)
        home.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield home.database, home.logs / "ui.log"
        return
    with tempfile.TemporaryDirectory(prefix="hdsweep-ui-") as folder:
        try:
            database = copy_to(home.database, Path(folder))
        except (sqlite3.Error, OSError) as error:
            raise unreadable(home, error) from error
        say(
            f"home `{home.path}` may only be read: its runs as they are now; what is edited is lost"
        )
        _mend(home, database, say)
        yield database, Path(folder) / "ui.log"


def _mend(home: Home, database: Path, say: Callable[[str], None]) -> None:
    """Have the artifacts of a moved home found; where it cannot be written to, say what will be missing."""
    if upgraded := schema.upgrade(home):
        say(upgraded)
    try:
        told = artifact_locations.mend(home, database)
    except InputError as error:
        told = f"{str(error).splitlines()[0]}: if the home was moved, MLflow lists no artifacts"
    if told:
        say(told)


def _require_client(home: Home) -> None:
    """Raise an InputError if MLflow cannot read the object store that the artifacts lie in."""
    if home.mirror is None:
        return
    amazon = home.address.startswith("s3:")
    library, extra = ("boto3", "aws") if amazon else ("google.cloud.storage", "gcp")
    try:
        importlib.import_module(library)
    except ImportError as error:
        raise InputError(
            f"MLflow needs {library} to show artifacts of `{home.mirror.storage.shown}`",
            hint=f"pip install 'hdsweep[{extra}]'",
        ) from error


def _endpoint(home: Home) -> dict[str, str]:
    """Return where MLflow finds a store that is not Amazon's own, as its client wants to be told."""
    query = dict(parse_qsl(home.address.partition("?")[2]))
    if "endpoint_override" not in query:
        return {}
    url = f"{query.get('scheme', 'https')}://{query['endpoint_override']}"
    return {"MLFLOW_S3_ENDPOINT_URL": url}


def _refuse_taken_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"port {port} on {host} cannot be used: {error.strerror}",
                hint=f"another one: `hdsweep ui --port {port + 1}`",
            ) from error


@contextlib.contextmanager
def _server(
    home: Home, database: Path, host: str, port: int, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Have the server running; it and all its children are gone afterwards."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    command += ["--backend-store-uri", database_uri(database)]
    command += ["--artifacts-destination", home.artifacts.as_uri(), "--workers", "1"]
    names = dict.fromkeys(["localhost", "127.0.0.1", f"[{host}]" if ":" in host else host])
    command += ["--allowed-hosts", ",".join(f"{name}:{port}" for name in names)]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | ENVIRONMENT | _endpoint(home),
            # A group of its own: Ctrl-C reaches us alone, and we end all of it.
            start_new_session=True,
            umask=0o077,
        )
    try:
        yield server
    finally:
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=STOP_SECONDS)


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM instead of letting them interrupt anything.

    An exception could be raised just after the server starts, before anybody holds it, or while
    it is being ended: either way it would live on.
    """
    asked: list[int] = []

    def note(number: int, _: object) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _healthy(url: str, server: subprocess.Popen[bytes], log: Path, asked: list[int]) -> bool:
    """Wait until the server answers; False if somebody asks to stop before it does."""
    # Straight to the loopback address, whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline and not asked:
        with contextlib.suppress(OSError), opener.open(f"{url}/health", timeout=2):
            return True
        time.sleep(POLL_SECONDS)
    if asked:
        return False
    raise HdsweepError("the MLflow server does not start", hint=f"its output is in `{log}`")
