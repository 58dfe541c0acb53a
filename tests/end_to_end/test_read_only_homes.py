"""A home that may only be read: on a read-only mount, and another user's whose group we are in.

A real mount in a namespace of its own, and a real process without the capabilities that let root ignore
permissions. Who has neither root nor such a namespace skips.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.command_line import PATIENCE_S, hdsweep
from tests.unprivileged import NOBODY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount and to give files away"),
]

SMOKE = ("--scale", "smoke", "--methods", "scratch_adm", "--targets", "ph2", "--seeds", "0")
# Without: CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER.
DROP = "-chown,-dac_override,-dac_read_search,-fowner"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    home = tmp_path_factory.mktemp("stored") / "home"
    hdsweep("run", "table2", *SMOKE, home=home)
    return home


@pytest.fixture(params=["mount", "group"])
def inside(request, stored, tmp_path):
    """Return a home that may only be read, and a function that runs a shell script where that is so."""
    home = tmp_path / "h#o?m%20e&="
    shutil.copytree(stored, home)
    tool = "unshare" if request.param == "mount" else "setpriv"
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")
    if request.param == "group":
        for path in (home, *home.rglob("*")):
            path.chmod(0o750 if path.is_dir() else 0o640)
            os.chown(path, NOBODY, 0)
    named = shlex.quote(str(home))
    ready = f"mount --bind {named} {named} && mount -o remount,ro,bind {named} && "

    def run(script):
        if request.param == "mount":
            call = ["unshare", "-m", "sh", "-c", ready + script]
        else:
            call = ["setpriv", f"--bounding-set={DROP}", "sh", "-c", script]
        return subprocess.run(
            call, check=False, capture_output=True, text=True, timeout=PATIENCE_S, cwd=tmp_path
        )

    probe = run(f"touch {named}/x")
    assert "Read-only" in probe.stderr or "Permission denied" in probe.stderr, probe.stderr
    return home, run


def told(*arguments, home):
    words = [sys.executable, "-m", "orchestrator.cli", *arguments, "--home", home]
    return shlex.join(str(each) for each in words)


def test_what_only_reads_works_and_what_writes_says_why_not(stored, inside, tmp_path):
    home, run = inside
    before = sorted(str(path) for path in home.rglob("*"))

    def asked(*arguments):
        done = run(told(*arguments, home=home))
        assert "Traceback" not in done.stderr, done.stderr[-3000:]
        return done.returncode, done.stdout, done.stderr

    def same(*arguments):
        status, out, _ = asked(*arguments)
        assert status == 0
        assert out == hdsweep(*arguments, home=stored)[0]

    same("status", "table2", *SMOKE, "--json")
    same("report", "table2", *SMOKE, "--json")
    same("plan", "table2", *SMOKE, "--json")
    status, out, err = asked("report", "table2", *SMOKE)
    assert status == 0
    assert "scratch_adm" in out
    assert f"home `{home}` may only be read: --out names a folder" in err
    status, _, err = asked("report", "table2", *SMOKE, "--out", tmp_path / "out")
    assert status == 0, err
    assert (tmp_path / "out" / "report.html").is_file()
    status, out, _ = asked("compare", stored, home, "--json")
    assert status == 0
    status, out, _ = asked("reproduce", "scratch_adm/ph2/0", "--scale", "smoke")
    assert status == 0
    assert "bit-identical" in out
    for verb in (("run", "table2", *SMOKE), ("reconcile",), ("data", "prepare", "ph2-like")):
        status, _, err = asked(*verb)
        assert status == 2, err
        assert "\n" not in err.partition("\n\nhint: ")[0].rpartition("error: ")[2]
    assert sorted(str(path) for path in home.rglob("*")) == before


UI = """
import os, signal, subprocess, sys, urllib.request
server = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
address = server.stdout.readline().strip()
straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))
body = b'{"experiment_ids": ["1"]}'
asked = urllib.request.Request(
    f"{address}/api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"}
)
print(straight.open(asked, timeout=60).read().decode())
server.send_signal(signal.SIGTERM)
print(server.communicate(timeout=60)[1], file=sys.stderr)
"""


def test_the_ui_shows_a_copy(inside, tmp_path):
    home, run = inside
    script = tmp_path / "ui.py"
    script.write_text(UI)
    done = run(
        shlex.join([sys.executable, str(script)]) + " " + told("ui", "--port", "5871", home=home)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    names = [run["info"]["run_name"] for run in json.loads(done.stdout)["runs"]]
    assert "scratch_adm ph2-like seed 0" in names
    assert "may only be read: its runs as they are now" in done.stderr
