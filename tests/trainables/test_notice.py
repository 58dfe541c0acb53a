"""Spot machines learn that they are about to be taken away from a service of the machine's own."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from trainables.notice import Notice, aws_notice, cloud_signs, gcp_notice


class Metadata(BaseHTTPRequestHandler):
    """Answers as the services are documented to."""

    def do_PUT(self):
        lifetime = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        known = self.path == "/latest/api/token" and lifetime is not None
        self._answer(200 if known else 400, "secret")

    def do_GET(self):
        if self.path == "/latest/meta-data/spot/instance-action":
            if self.headers.get("X-aws-ec2-metadata-token") != "secret":
                self._answer(401, "")
            else:
                self._answer(200 if self.server.doomed else 404, '{"action": "terminate"}')
        elif self.path == "/computeMetadata/v1/instance/preempted":
            allowed = self.headers.get("Metadata-Flavor") == "Google"
            self._answer(200 if allowed else 403, "TRUE" if self.server.doomed else "FALSE")
        else:
            self._answer(404, "")

    def _answer(self, status, text):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    server = HTTPServer(("127.0.0.1", 0), Metadata)
    server.doomed = False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("ask", [aws_notice, gcp_notice])
def test_each_cloud_is_asked_as_it_wants_to_be(service, ask):
    base = f"http://127.0.0.1:{service.server_port}"
    assert not ask(base)
    service.doomed = True
    assert ask(base)


@pytest.mark.parametrize("ask", [aws_notice, gcp_notice])
def test_nobody_to_ask_is_no_notice(ask):
    assert not ask("http://127.0.0.1:9")


def test_it_is_noticed_while_something_else_runs(service):
    base = f"http://127.0.0.1:{service.server_port}"
    notice = Notice(
        (lambda: 1 / 0, lambda: False), every=0.01
    )  # A bad sign hides no other for good.
    assert not notice.given
    notice = Notice((lambda: aws_notice(base),), every=0.01)
    time.sleep(0.1)
    assert not notice.given
    service.doomed = True
    deadline = time.monotonic() + 10
    while not notice.given:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_only_a_machine_that_is_told_to_asks(monkeypatch):
    monkeypatch.delenv("HDSWEEP_SPOT", raising=False)
    assert cloud_signs() == ()
    monkeypatch.setenv("HDSWEEP_SPOT", "aws")
    assert cloud_signs() == (aws_notice,)
