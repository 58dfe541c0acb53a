"""`hdsweep ui`: the MLflow UI over a home folder, on this machine only.

MLflow's server has no authentication, so it listens on a loopback address and nowhere else; from
another machine, tunnel to it with `ssh -L`.
"""

import ipaddress
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path

from orchestrator.errors import HdsweepError, InputError
from orchestrator.home import Home

READY_S = 60.0


def serve(path: Path, *, port: int, host: str, open_browser: bool) -> int:
    """Serve until interrupted; return the exit status.

    Raises:
        InputError: if `host` is not a loopback address, or nothing has been stored yet.
        HdsweepError: if the server does not come up.
    """
    home = Home(path)
    _require_loopback(host)
    if not home.exists():
        raise InputError(
            f"nothing has been stored in `{path}` yet",
            hint="run a study first, such as `hdsweep run table2 --scale demo`",
        )
    server = subprocess.Popen(command(home, host, port), start_new_session=True)
    try:
        url = f"http://{host}:{port}"
        _wait_until_ready(url, server)
        sys.stderr.write(f"MLflow UI: {url} (Ctrl-C ends it)\n")
        if open_browser:
            webbrowser.open(url)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        server.terminate()
        server.wait()


def command(home: Home, host: str, port: int) -> list[str]:
    """Return the command of the server."""
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", f"sqlite:///{home.database}"),
        *("--default-artifact-root", home.artifacts.as_uri()),
        *("--host", host, "--port", str(port), "--workers", "1"),
    ]


def _require_loopback(host: str) -> None:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise InputError(
            f"--host {host}: the UI has no password and listens on loopback addresses only",
            hint="from another machine: `ssh -L 5000:127.0.0.1:5000 HERE`, then open localhost:5000",
        )


def _wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise HdsweepError(f"the MLflow server ended with status {server.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise HdsweepError(f"the MLflow server did not answer at {url} within {READY_S:.0f} s")
