"""The command line in a process of its own, as a user calls it."""

import json
import os
import subprocess
import sys

PATIENCE_S = 300


def command(*arguments):
    """Return the command of one call, for `subprocess`."""
    return [sys.executable, "-m", "orchestrator.cli", *map(str, arguments)]


def hdsweep(*arguments, home=None, exit_code=0, **environment):
    """Make a call, expect its exit code, and return standard output and standard error."""
    place = () if home is None else ("--home", home)
    done = subprocess.run(
        command(*arguments, *place),
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=os.environ | environment,
    )
    assert done.returncode == exit_code, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout, done.stderr


def outcome(text):
    """Return a table in JSON without what is of one time alone: command, date, wall time."""
    document = json.loads(text)
    assert document["made"]["command"]
    return {name: value for name, value in document.items() if name != "made"}
