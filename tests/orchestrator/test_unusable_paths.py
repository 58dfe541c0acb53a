"""Every verb and every option that takes a path, with every kind of path that cannot be used.

One line that names what is wrong, exit status 2, no traceback, and no waiting for a pipe. In this process,
as somebody who may not read everything.
"""

import contextlib
import os
import signal
import socket
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import HdsweepError
from orchestrator.store.home.home import open_home
from tests.unprivileged import another, unprivileged

PATIENCE_S = 60
SMOKE = ("--scale", "smoke", "--methods", "scratch_adm", "--targets", "ph2", "--seeds", "0")


@contextlib.contextmanager
def impatient():
    """Raise a TimeoutError in whatever waits for ever."""

    def ring(*_):
        raise TimeoutError("it waits for ever")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def call(*arguments):
    """Return the exit status and the error of a call, which is a line of ours or a bug."""
    with unprivileged(), impatient():
        done = CliRunner().invoke(app, [str(each) for each in arguments])
    error = done.exception
    if isinstance(error, HdsweepError):
        return error.exit_code, str(error)
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return done.exit_code, done.stderr


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Return a path of each kind that cannot be used, by what it is."""
    root = tmp_path_factory.mktemp("places")
    locked = root / "locked"
    (locked / "inside").mkdir(parents=True)
    (locked / "VERSION").write_text("1\n")
    locked.chmod(0o700)
    another(locked)
    (root / "file").write_text("text")
    (root / "secret").write_text("text")
    (root / "secret").chmod(0o600)
    another(root / "secret")
    (root / "dangling").symlink_to(root / "nowhere")
    (root / "loop").symlink_to(root / "loop")
    os.mkfifo(root / "pipe")
    heard = socket.socket(socket.AF_UNIX)
    heard.bind(str(root / "s"))
    (root / "others").mkdir(mode=0o755)  # To be looked at, and no more.
    another(root / "others")
    with contextlib.closing(heard):
        yield {
            "locked": locked,
            "inside": locked / "inside",
            "below": locked / "inside" / "deeper",
            "file": root / "file",
            "under_file": root / "file" / "x",
            "secret": root / "secret",
            "dangling": root / "dangling",
            "loop": root / "loop",
            "under_loop": root / "loop" / "x",
            "pipe": root / "pipe",
            "socket": root / "s",
            "device": Path("/dev/zero"),
            "long": root / ("n" * 300),
            "deep": root.joinpath(*["n" * 200] * 30),
            "proc": Path("/proc/nothing/here"),
            "others": root / "others",
            "absent": root / "absent",
            "folder": root,
        }
    if os.geteuid() != 0:
        for path in (locked, root / "secret", root / "others"):
            path.chmod(0o700)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Return a small text file that anybody may read."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("background\nlesion\n")
    return path


NO_HOMES = ("locked", "inside", "below", "file", "under_file", "dangling", "loop", "under_loop")
NO_HOMES += ("pipe", "socket", "device", "long", "deep")
READ = {
    "plan": ("plan", "table2", *SMOKE),
    "status": ("status", "table2", *SMOKE),
    "report": ("report", "table2", *SMOKE),
    "reproduce": ("reproduce", "scratch_adm/ph2/0", "--scale", "smoke"),
    "compare": ("compare", "table2/smoke", "table2/demo"),
    "ui": ("ui", "--port", "5999"),
    "data list": ("data", "list"),
    "data verify": ("data", "verify", "ph2"),
    "data show": ("data", "show", "ph2", "--out", "sheet.png"),
    "weights list": ("weights", "list"),
}
WRITE = {
    "run": ("run", "table2", *SMOKE),
    "tune": ("tune", "lambda", "--scale", "smoke", "--targets", "ph2", "--trials", "1"),
    "reconcile": ("reconcile",),
    "data prepare": ("data", "prepare", "ph2-like"),
    "weights import": ("weights", "import", "resnet50", "/etc/hostname"),
}


@pytest.mark.parametrize("kind", NO_HOMES)
@pytest.mark.parametrize("verb", [*READ, *WRITE])
def test_a_home_that_cannot_be_used(places, verb, kind):
    status, said = call(*(READ | WRITE)[verb], "--home", places[kind])
    assert status == 2, said
    assert_one_line(said)


@pytest.mark.parametrize("kind", ["others", "proc"])
@pytest.mark.parametrize("verb", WRITE)
def test_a_home_that_cannot_be_written(places, verb, kind):
    status, said = call(*WRITE[verb], "--home", places[kind])
    assert status == 2, said
    assert_one_line(said)


@pytest.mark.parametrize("kind", [*NO_HOMES, "others", "proc"])
def test_doctor_says_what_is_wrong_with_a_home(places, kind):
    status, said = call("doctor", "--home", places[kind])
    assert status in (1, 2), said


def assert_one_line(said):
    message, _, hint = said.partition("\n\nhint: ")
    assert message
    assert "\n" not in message.strip()
    assert "\n" not in hint.strip()


NO_FILES = ("locked", "inside", "below", "under_file", "secret", "dangling", "loop", "under_loop")
NO_FILES += ("pipe", "socket", "device", "long", "deep", "proc", "absent", "folder")
FILES = {
    "cluster": ("cluster", "validate", "{}"),
    "weights": ("weights", "import", "resnet50", "{}", "--home", "{home}"),
    "classes": (
        *("data", "import", "mine", "--images", "{text}/..", "--masks", "{text}/.."),
        *("--classes", "{}", "--home", "{home}"),
    ),
    "train": (
        *("data", "import", "mine", "--images", "{text}/..", "--masks", "{text}/.."),
        *("--classes", "{text}", "--train", "{}", "--home", "{home}"),
    ),
    "images": (
        *("data", "import", "mine", "--images", "{}", "--masks", "{text}/.."),
        *("--classes", "{text}", "--home", "{home}"),
    ),
    "masks": (
        *("data", "import", "mine", "--images", "{text}/..", "--masks", "{}"),
        *("--classes", "{text}", "--home", "{home}"),
    ),
    "from": ("data", "prepare", "ph2", "--from", "{}", "--home", "{home}"),
}
SUFFIXED = {
    ".toml": {
        "study": ("plan", "{}", "--home", "{home}"),
        "scale": ("plan", "table2", "--scale", "{}", "--home", "{home}"),
    },
    ".py": {"check": ("check", "{}"), "space": ("tune", "{}", "--home", "{home}")},
    ".zip": {"archive": ("data", "prepare", "ph2", "--from", "{}", "--home", "{home}")},
    ".safetensors": {"weights": ("weights", "import", "resnet50", "{}", "--home", "{home}")},
}


def filled(arguments, path, home, text):
    places = {"{}": path, "{home}": home, "{text}": text, "{text}/..": text.parent}
    return [places.get(each, each) for each in arguments]


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def linked(path, link):
    """Return a link to a path, which gives it another ending, or as long a path with that ending."""
    if len(path.name) > 255 or len(str(path)) > 4095:
        return path.with_name(f"{path.name}{link.suffix}")
    link.symlink_to(path)
    return link


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("option", FILES)
def test_a_file_that_cannot_be_read(places, text, home, option, kind):
    status, said = call(*filled(FILES[option], places[kind], home, text))
    assert status == 2, said
    assert_one_line(said)


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize(
    ("suffix", "option"), [(suffix, each) for suffix, by in SUFFIXED.items() for each in by]
)
def test_a_file_of_the_right_ending_that_cannot_be_read(
    places, text, home, tmp_path, suffix, option, kind
):
    link = linked(places[kind], tmp_path / f"mine{suffix}")
    status, said = call(*filled(SUFFIXED[suffix][option], link, home, text))
    assert status == 2, said
    assert_one_line(said)


NO_OUTPUTS = ("below", "under_file", "file", "dangling", "loop", "pipe", "device", "long", "deep")
NO_OUTPUTS += ("proc", "secret")


@pytest.mark.parametrize("kind", [*NO_OUTPUTS, "others"])
def test_a_report_that_cannot_be_written(places, home, kind):
    out = places["others"] / "report" if kind == "others" else places[kind]
    status, said = call("report", "table2", *SMOKE, "--out", out, "--home", home)
    assert status == 2, said
    assert_one_line(said)


@pytest.mark.parametrize("kind", ["others", *(each for each in NO_OUTPUTS if each != "file")])
def test_a_picture_that_cannot_be_written(places, home, tmp_path, kind):
    out = places["others"] / "g.svg"
    if kind != "others":
        out = linked(places[kind], tmp_path / "g.svg")
    if kind == "device":
        pytest.skip("a device takes it")
    asked = ("plan", "table2", *SMOKE, "--gpus", "1", "--gantt", out, "--home", home)
    status, said = call(*asked)
    if kind == "dangling":  # A link to a file that is not there yet: it is written there.
        assert status == 0
        return
    assert status == 2, said
    assert_one_line(said)


@pytest.mark.parametrize("value", ["", " ", "http://host/x", "file:///tmp/x", "~no-such-user/x"])
@pytest.mark.parametrize("verb", ["status", "run"])
def test_what_names_no_folder_is_refused(verb, value):
    status, said = call(*(READ | WRITE)[verb], "--home", value)
    assert status == 2, said
    assert_one_line(said)


@pytest.mark.parametrize("verb", ["status", "run"])
def test_a_variable_that_is_set_to_nothing_is_refused(monkeypatch, verb):
    monkeypatch.setenv("HDSWEEP_HOME", "")
    status, said = call(*(READ | WRITE)[verb])
    assert status == 2
    assert said.startswith("HDSWEEP_HOME is set to nothing")


def test_no_thread_is_left():
    assert [each.name for each in threading.enumerate() if not each.daemon] == ["MainThread"]


@pytest.mark.parametrize("kind", NO_HOMES)
def test_a_side_of_a_comparison_that_cannot_be_read(places, home, kind):
    status, said = call("compare", places[kind], "table2/smoke", "--home", home)
    assert status == 2, said
    assert_one_line(said)


def test_somebodys_folder_is_not_taken(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.tex").write_text("mine")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets").chmod(0o755)
    status, said = call(*WRITE["reconcile"], "--home", tmp_path)
    assert status == 2
    assert "is no home of hdsweep, and not empty: it has thesis.tex" in said
    assert "--adopt" in said
    assert sorted(os.listdir(tmp_path)) == ["datasets", "thesis.tex"]
    assert open_home(tmp_path, adopt=True).path == tmp_path
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path, *tmp_path.iterdir())}
    assert modes.pop(tmp_path.name) == modes.pop("datasets") == 0o755  # Not ours to make private.
    assert modes["artifacts"] == 0o700
    assert (tmp_path / "thesis.tex").read_text() == "mine"
    open_home(tmp_path)  # A home from now on.


def test_an_empty_disk_is_taken_and_made_private(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "lost+found").mkdir()
    open_home(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_what_the_owner_lets_others_see_stays_so(tmp_path):
    home = open_home(tmp_path / "home")
    for folder in (home.path, home.artifacts):
        folder.chmod(0o750)
    open_home(home.path)
    assert {f.stat().st_mode & 0o777 for f in (home.path, home.artifacts)} == {0o750}
