"""Whatever standard output and error are, work is stored first and what is printed degrades."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import InputError
from orchestrator.process.streams import HANDLER, require_utf8
from tests.command_line import command
from tests.documents import document

ROOT = Path(__file__).parents[2]
ONE_RUN = ["--scale", "smoke", "--methods", "scratch_adm", "--targets", "ph2", "--seeds", "0"]
LOCALES = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "utf-16": {"PYTHONIOENCODING": "utf-16"},
    "C without UTF-8": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
PACKAGES = ("orchestrator", "search_spaces", "trainables", "benchmarks")


def call(*arguments, environment=None, **streams):
    streams.setdefault("stdout", subprocess.PIPE)
    streams.setdefault("stderr", subprocess.PIPE)
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))
    }
    return subprocess.run(
        command(*arguments),
        check=False,
        timeout=300,
        cwd=ROOT,
        env=inherited | (environment or {}),
        **streams,
    )


@pytest.mark.parametrize("locale", ["ascii", "C without UTF-8"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["plan", "table2"],
        ["status", "table2"],
        ["data", "list"],
        ["plan", "no such study ±"],
    ],
)
def test_no_encoding_stops_a_verb(tmp_path, locale, arguments):
    home = [] if "--help" in arguments else ["--home", tmp_path / "hömé"]
    done = call(*arguments, *home, environment=LOCALES[locale])
    assert b"Traceback" not in done.stderr
    refused = arguments[0] == "status" or "no such study ±" in arguments  # There is no home.
    assert done.returncode == (2 if refused else 0), done.stderr


@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [
        (["--help"], ""),
        (["--version"], "1"),
        (["plan", "table2"], ""),
        (["data", "list", "--json"], ""),
    ],
)
def test_a_full_device_is_one_line_and_a_status(tmp_path, arguments, unbuffered):
    with open("/dev/full", "wb") as full:
        environment = {"HDSWEEP_HOME": str(tmp_path), "PYTHONUNBUFFERED": unbuffered}
        done = call(*arguments, stdout=full, environment=environment)
        talk = call(*arguments, stderr=full, environment=environment)
    assert done.returncode == 1
    message = "standard output cannot be written: No space left on device"
    if "--json" in arguments:
        assert json.loads(done.stderr)["message"] == message
    else:
        assert done.stderr.decode() == f"error: {message}\n"
    assert talk.returncode == 0
    assert talk.stdout


def test_what_was_closed_is_never_given_to_a_file():
    script = "exec 1>&- 2>&-; exec {} -c '{}'"
    code = (
        "import os\nfrom orchestrator.process.streams import make_robust\nmake_robust()\n"
        'assert open("/dev/null").fileno() > 2\nprint(1)'
    )
    done = subprocess.run(["bash", "-c", script.format(sys.executable, code)], check=False)
    assert done.returncode == 0


def test_characters_that_an_encoding_lacks_become_what_they_look_like():
    assert "±é†λ\udce9猫".encode("ascii", HANDLER) == b"+/-e+lambda\xe9?"
    assert "±é".encode("latin-1", HANDLER) == b"\xb1\xe9"


def test_a_name_that_is_no_utf8_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"h\\udce9: not a name in UTF-8"):
        require_utf8(["h\udce9"])
    done = call("status", "table2", "--home", os.fsdecode(os.fsencode(tmp_path) + b"/h\xe9"))
    assert done.returncode == 2
    assert b"not a name in UTF-8" in done.stderr


@pytest.mark.slow
def test_a_sweep_is_stored_before_its_table_cannot_be_printed(tmp_path):
    home = ["--home", tmp_path / "hömé"]
    environment = LOCALES["C without UTF-8"]
    with open("/dev/full", "wb") as full:
        done = call(
            "run", "table2", *ONE_RUN, *home, environment=environment, stdout=full, stderr=full
        )
    assert done.returncode == 1
    status = call("status", "table2", *ONE_RUN, *home, "--json")
    assert document(status.stdout)["finished"] == 1
    for locale in LOCALES.values():
        for verb in ("report", "status"):
            shown = call(verb, "table2", *ONE_RUN, *home, environment=locale)
            assert shown.returncode == 0, shown.stderr
    again = call("run", "table2", *ONE_RUN, *home, environment=LOCALES["ascii"])
    assert again.returncode == 0, again.stderr
    assert b"mean +/- sample standard deviation" in again.stdout


def text_without_encoding(tree):
    """Yield the lines at which a file is opened as text in the encoding of the locale."""
    for call_ in ast.walk(tree):
        if not isinstance(call_, ast.Call) or any(k.arg == "encoding" for k in call_.keywords):
            continue
        function = call_.func
        name = getattr(function, "attr", getattr(function, "id", ""))
        # A `read_text` that is no method of a path is our own, which asks for no encoding.
        if name in ("read_text", "write_text") and isinstance(function, ast.Attribute):
            yield call_.lineno
        if name in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile"):
            written = [*call_.args, *(k.value for k in call_.keywords if k.arg == "mode")]
            modes = [each.value for each in written if isinstance(each, ast.Constant)]
            # Without a mode, `path.open()` and `open(path)` read text; other `open`s are of modules.
            # Temporary files are binary without a mode.
            text = not (modes or "Temporary" in name) and (
                isinstance(function, ast.Name) or not call_.args
            )
            if text or any(
                isinstance(m, str) and m in ("r", "w", "a", "x", "a+", "w+") for m in modes
            ):
                yield call_.lineno
        switches = [k.value for k in call_.keywords if k.arg in ("text", "universal_newlines")]
        if any(isinstance(each, ast.Constant) and each.value is True for each in switches):
            yield call_.lineno


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_is_utf8_whatever_the_locale(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in files
        for line in text_without_encoding(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_a_working_directory_that_is_gone_is_said_to_be(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f'cd "{gone}" && rmdir "{gone}" && exec "$@"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *command("status", "table2", "--home", tmp_path / "home")],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: the working directory cannot be used: No such file")
    assert "hint: it was deleted or moved" in done.stderr


@pytest.mark.parametrize("how", [{"PYTHONOPTIMIZE": "2"}, {}])
def test_help_is_there_whatever_python_was_told_to_leave_out(how):
    python, *rest = command("run", "--help")
    arguments = [python, *([] if how else ["-OO"]), *rest]
    done = subprocess.run(
        arguments, check=False, capture_output=True, text=True, cwd=ROOT, env=os.environ | how
    )
    assert "Run what is missing of STUDY, and print its table." in done.stdout
