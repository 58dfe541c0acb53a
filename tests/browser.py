"""A real browser with an empty profile, driven over the WebDriver protocol; nothing is installed for it."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request

import pytest

PATIENCE_S = 60
ARGUMENTS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--window-size=2200,1000",
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
)
STRAIGHT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Browser:
    """One window."""

    def __init__(self, session):
        self._session = session

    def _post(self, what, content):
        return ask(f"{self._session}/{what}", content)

    def open(self, address):
        self._post("url", {"url": address})

    def value(self, script):
        """Return what a script in the page returns."""
        return self._post("execute/sync", {"script": script, "args": []})

    def within(self, frame):
        """Look into a frame from now on, by a selector."""
        found = self._post("element", {"using": "css selector", "value": frame})
        self._post("frame", {"id": found})

    def text_with(self, *wanted):
        """Return the text of the page once it has all of these; what it has by then if it never does."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            text = self.value("return document.body ? document.body.innerText : ''") or ""
            if all(each in text for each in wanted) or time.monotonic() > deadline:
                return text
            time.sleep(0.3)


def ask(address, content=None):
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with STRAIGHT.open(request, timeout=PATIENCE_S) as answer:
        return json.loads(answer.read())["value"]


@contextlib.contextmanager
def browser():
    """Yield a browser that was never anywhere; skip where there is none."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium with its chromedriver: `apt-get install chromium-driver`")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        subprocess.Popen(
            [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process,
    ):
        try:
            yield Browser(_session(f"http://127.0.0.1:{port}", binary, profile))
        finally:
            process.terminate()


def _session(address, binary, profile):
    for _ in range(100):
        with contextlib.suppress(OSError):
            ask(f"{address}/status")
            break
        time.sleep(0.1)
    options = {"binary": binary, "args": [*ARGUMENTS, f"--user-data-dir={profile}"]}
    wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
    return f"{address}/session/{ask(f'{address}/session', wanted)['sessionId']}"
