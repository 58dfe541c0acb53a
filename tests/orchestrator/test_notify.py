"""What is told outside a sweep: to a real server and a real program, without disturbing anything."""

import base64
import http.server
import json
import os
import shlex
import stat
import subprocess
import threading
import time

import pytest
from optuna.trial import TrialState, create_trial

from orchestrator.errors import InputError
from orchestrator.plan.plan import load_plan
from orchestrator.sweep.events import Event
from orchestrator.sweep.watch.notify import notifying, receiver, watched_sweep, without_paths
from orchestrator.tuning.live import SearchView, watched_search
from orchestrator.tuning.search import make_search
from tests.command_line import command

SLOW = 8  # Seconds; longer than the end of a sweep waits.


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def plan():
    return load_plan("table2", scale="smoke", methods="hybrid_ft", targets="ph2", seeds="0")


class Server(http.server.ThreadingHTTPServer):
    """Keeps what it is sent, and answers as it is told."""

    daemon_threads, block_on_close = True, False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.answer, self.pause = [], 200, 0.0
        self.arrived = threading.Event()

    def url(self, path="/hook?token=secret", user=""):
        return f"http://{user}127.0.0.1:{self.server_port}{path}"

    @property
    def messages(self):
        return [json.loads(body) for _, _, body in self.requests]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.server.pause)
        self.server.requests.append((self.path, self.headers, body))
        self.server.arrived.set()
        self.send_response(self.server.answer)
        if 300 <= self.server.answer < 400:
            self.send_header("Location", "file:///etc/hostname")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def program(tmp_path):
    """Return a function that writes an executable script and returns its path."""

    def write(text):
        path = tmp_path / "told.sh"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write


def event(kind, run, message=""):
    return Event(kind=kind, run=run, time=time.time(), message=message)


def swept(plan, whats, events, *, stall_s=60.0, during=lambda: None):
    """Tell these events to these receivers; return what was seen, what was said, and the seconds."""
    seen, said = [], []
    receivers = [receiver(str(what)) for what in whats]
    start = time.monotonic()
    with notifying(
        receivers, watched_sweep(plan), seen.append, said.append, stall_s=stall_s
    ) as on_event:
        for each in events:
            on_event(each)
        told = time.monotonic() - start
        during()
    return seen, said, (told, time.monotonic() - start)


def test_a_url_is_told_of_the_end_with_the_counts_of_the_summary(plan, server):
    pretraining, cell = plan.runs
    events = [event("reused", pretraining), event("started", cell), event("finished", cell)]
    seen, said, _ = swept(plan, [server.url()], events)
    assert seen == events
    assert said == []
    (message,) = server.messages
    assert message == {
        "event": "finished",
        "study": "table2",
        "scale": "smoke",
        "text": "table2 (smoke): done: 1 reused, 1 finished, 0 failed, 0 blocked of 2 runs",
        "counts": {
            "planned": 2,
            "reused": 1,
            "finished": 1,
            "failed": 0,
            "blocked": 0,
            "interrupted": False,
        },
    }
    path, headers, _ = server.requests[0]
    assert path == "/hook?token=secret"
    assert headers["Content-Type"] == "application/json"


def test_the_first_failure_is_told_once_and_without_paths(plan, server):
    pretraining, cell = plan.runs
    cause = "error: cannot read '/home/me/my data/x.arrow' from https://me:pw@host/x?key=1"
    events = [event("retrying", pretraining, cause), event("failed", pretraining, cause)]
    swept(plan, [server.url()], [*events, event("failed", cell, "error: another")])
    first, end = server.messages
    assert (first["event"], first["label"]) == ("first_failure", "pretrain hybrid isic2018-like")
    assert first["cause"] == "error: cannot read <path> from <url>"
    assert (
        first["text"] == f"table2 (smoke): pretrain hybrid isic2018-like failed: {first['cause']}"
    )
    assert (end["event"], end["counts"]["failed"]) == ("finished", 2)


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        ("no space at /var/x.db: full", "no space at <path>: full"),
        ("~/data, ../b/c and ./d", "<path>, <path> and <path>"),
        ("loss is 3/4 of n/a", "loss is 3/4 of n/a"),
        ("two\nlines \x1b[31m", "two lines [31m"),
    ],
)
def test_a_cause_says_nothing_of_where_files_lie(cause, told):
    assert without_paths(cause) == told


def test_the_end_is_told_when_the_sweep_is_interrupted(plan, server):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        swept(plan, [server.url()], [event("finished", plan.runs[0])], during=interrupt)
    (message,) = server.messages
    assert message["counts"] == {
        "planned": 2,
        "reused": 0,
        "finished": 1,
        "failed": 0,
        "blocked": 0,
        "interrupted": True,
    }
    assert "stopped early" in message["text"]


def test_a_stall_is_told_once_until_there_is_a_sign_of_life(plan, server):
    run = plan.runs[0]
    receivers, said = [receiver(server.url())], []
    with notifying(
        receivers, watched_sweep(plan), lambda _: None, said.append, stall_s=0.3
    ) as on_event:
        for _ in range(2):
            on_event(event("progress", run))
            assert server.arrived.wait(10)
            server.arrived.clear()
            assert not server.arrived.wait(1)
    assert [each["event"] for each in server.messages] == ["stalled", "stalled", "finished"]
    assert server.messages[0]["text"].startswith("table2 (smoke): no sign of life for ")
    assert said == []


def test_a_command_finds_the_same_message_on_its_standard_input(plan, program, tmp_path, capfd):
    path = program('echo chatter; cat > "$1"')
    _, said, _ = swept(plan, [f"{path} '{tmp_path / 'a b; $(x).json'}'"], [])
    message = json.loads((tmp_path / "a b; $(x).json").read_text())
    assert message["event"] == "finished"
    assert said == []
    assert capfd.readouterr().out == ""


def test_user_and_password_are_sent_as_such_and_never_shown(plan, server):
    server.answer = 500
    _, said, _ = swept(plan, [server.url(user="me:p%40ss@")], [])
    _, headers, _ = server.requests[0]
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"me:p@ss"
    place = f"http://127.0.0.1:{server.server_port}/..."
    assert said == [f"notification to {place} failed: it answered 500"]
    assert "secret" not in repr(receiver(server.url()))


def test_a_redirect_is_not_followed(plan, server):
    server.answer = 302
    _, said, _ = swept(plan, [server.url()], [])
    assert "it answered 302, a redirect, which is not followed" in said[0]


def test_who_cannot_be_reached_is_one_line_and_others_are_told(plan, server, program):
    with Server() as gone:
        closed = gone.url(path="/secret")
    failing = f"{program('cat > /dev/null; exit 3')} --password secret"
    seen, said, _ = swept(plan, [closed, failing, server.url()], [event("started", plan.runs[0])])
    assert len(seen) == 1
    assert sorted(said) == [
        f"notification to {closed.removesuffix('secret')}... failed: Connection refused",
        "notification to told.sh failed: exit status 3",
    ]
    assert len(server.messages) == 1


@pytest.mark.slow
def test_a_slow_receiver_holds_up_neither_the_driver_nor_the_end(plan, server, program):
    server.pause = SLOW
    events = [event("failed", plan.runs[0], "error: x"), event("blocked", plan.runs[1])]
    _, said, (told, whole) = swept(plan, [server.url(), program(f"exec sleep {SLOW}")], events)
    assert told < 1
    assert whole < SLOW
    assert len(said) == 2
    assert all("not waited for" in line for line in said)


def test_without_receivers_nothing_is_in_between(plan):
    seen = []
    with notifying([], watched_sweep(plan), seen.append, pytest.fail, stall_s=1) as on_event:
        assert on_event == seen.append


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("ftp://me:secret@host/x", "--notify ftp://...: must be http, https or a command"),
        ("file:///etc/secret", "--notify file://...: must be"),
        ("https://", "no valid host"),
        ("https://host/a secret", "no valid host or path"),
        ("http://me:secret@host:port/", "the URL is not valid"),
        ("no-such-command --x", "there is no command `no-such-command`"),
        ("mail 'secret", "the command is not valid: No closing quotation"),
        ("", "is empty"),
    ],
)
def test_what_nobody_can_be_told_by_is_refused(what, message):
    with pytest.raises(InputError) as error:
        receiver(what)
    assert message in str(error.value)
    assert "secret" not in str(error.value)


def hdsweep(*arguments, home):
    return subprocess.run(
        command(*arguments, "--home", home),
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ,
    )


@pytest.mark.parametrize(
    ("stored", "how"), [(2, "done"), (1, "stopped early, the same command goes on")]
)
def test_a_search_is_told_by_its_name_and_counts_trials(tmp_path, server, stored, how):
    search = make_search(
        "lambda", study="table2", home=tmp_path, scale="smoke", targets="ph2", trials=2
    )
    trials = [create_trial(state=TrialState.FAIL), create_trial(value=80.0)][:stored]
    pretraining, _ = search.runs({"lambda": 0.01}, 0)
    view = SearchView(search, [])
    with notifying(
        [receiver(server.url())], watched_search(view), view.take_event, pytest.fail, stall_s=60
    ) as on_event:
        on_event(event("failed", pretraining, "error: cannot read /data/x"))
        view.take(trials)
    first, end = server.messages
    named = {"study": "table2", "scale": "smoke", "search": search.name}
    assert {name: first[name] for name in named} == named == {name: end[name] for name in named}
    assert (first["event"], first["cause"]) == ("first_failure", "error: cannot read <path>")
    counts = f"{stored - 1} complete, 0 stopped, 1 failed of 2 trials"
    assert end["text"] == f"search {search.name} (smoke): {how}: {counts}"
    assert end["counts"] == {
        "planned": 2,
        "complete": stored - 1,
        "stopped": 0,
        "failed": 1,
        "interrupted": stored < 2,
    }


@pytest.mark.parametrize("verb", [("run", "table2"), ("tune", "lambda")])
def test_wrong_input_starts_nothing(tmp_path, verb):
    home = tmp_path / "home"
    done = hdsweep(*verb, "--scale", "smoke", "--notify", "ftp://x", home=home)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --notify ftp://...: must be http")
    assert done.stdout == ""
    assert not home.exists()


@pytest.mark.slow
def test_a_real_sweep_tells_a_server_and_a_program(tmp_path, server, program):
    told = tmp_path / "told.json"
    keeping = f"{program('cat > $1')} {told}"
    rows = ("--methods", "scratch_adm", "--targets", "ph2", "--seeds", "0", "--workers", "1")
    both = ("--notify", server.url(), "--notify", keeping)
    done = hdsweep(
        "run", "table2", "--scale", "smoke", "--json", *rows, *both, home=tmp_path / "h"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (message,) = server.messages
    assert json.loads(told.read_text()) == message
    summary = json.loads(done.stdout)
    assert message["counts"] == {name: summary[name] for name in message["counts"]}
    assert str(tmp_path) not in json.dumps(message)


@pytest.mark.parametrize(
    "what",
    ["cat > f", "cat >f", "cat | mail me", "cat && true", "true ; cat", "cat 2>&1", "cat &"],
)
def test_what_only_a_shell_understands_is_refused_with_how_to_have_one(what):
    with pytest.raises(InputError, match="is for a shell, and none is used") as caught:
        receiver(what)
    (hint,) = str(caught.value).splitlines()[2:]
    # As it is typed: a shell of the user's own takes the outer quotes off.
    _, typed = shlex.split(hint.removeprefix("hint: `").removesuffix("`"))
    assert receiver(typed).arguments == ("sh", "-c", what)


@pytest.mark.parametrize("what", ["cat 'a>b'", "cat '|x'", "cat a;b"])
def test_names_that_hold_such_signs_are_names(what):
    assert receiver(what).arguments[0] == "cat"
