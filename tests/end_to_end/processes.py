"""The processes of a sweep, for tests that kill them."""

import time
from pathlib import Path

from tests.command_line import PATIENCE_S

# Ray calls a worker by its class between two calls, and by the method while one goes on.
WORKERS = ("ray::RunTrainable", "ray::ResourceTrainable")


def workers_of(driver):
    """Return the ids of the processes of the trainables that descend from the driver."""
    return [pid for pid, name in descendants_of(driver).items() if name.startswith(WORKERS)]


def descendants_of(driver):
    """Return what the processes that descend from the driver are called, by id."""
    parents = {}
    names = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = status.read_text()
            title = (status.parent / "cmdline").read_text().split("\0")[0]
        except OSError:
            continue
        pid = int(status.parent.name)
        parents[pid] = int(text.rpartition(")")[2].split()[1])
        names[pid] = title

    def descends(pid):
        while pid in parents:
            pid = parents[pid]
            if pid == driver.pid:
                return True
        return False

    return {pid: name for pid, name in names.items() if descends(pid)}


def gone(processes):
    """Wait until processes have gone; return those that do not go."""
    deadline = time.monotonic() + 20
    while left := [each for each in processes if Path(f"/proc/{each}/exe").exists()]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return [Path(f"/proc/{each}/cmdline").read_text() for each in left]


def wait_until(condition, driver, *, pause_s=0.02):
    """Return the first truthy answer of a condition, asked for while the driver is at work."""
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := condition()):
        assert time.monotonic() < deadline, "the driver did not get that far"
        assert driver.poll() is None, f"the driver ended before it could be killed: {said(driver)}"
        time.sleep(pause_s)
    return answer


def wait_for_text(text, process, path):
    """Wait until a process has written something to a file."""
    deadline = time.monotonic() + PATIENCE_S
    while text not in path.read_text():
        assert time.monotonic() < deadline, path.read_text()
        assert process.poll() is None, path.read_text()
        time.sleep(0.1)


def said(driver):
    """Return the end of what a driver that has ended wrote to standard error."""
    return driver.communicate()[1][-3000:].decode() if driver.stderr else "it was not listened to"
