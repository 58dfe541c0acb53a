"""Another clock for a driver and all that it starts: libfaketime's, which a file moves while they run.

Only the time of day is moved: that an administrator may set, the monotonic clock nobody. libfaketime 0.9.10 spares
that one when asked, but refuses then to sleep until a time of it, as Python does; so sleeping goes past it.
"""

import shutil
import subprocess
from pathlib import Path

SLEEP = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left) {
    return syscall(SYS_clock_nanosleep, clock, flags, until, left) == -1 ? errno : 0;
}
"""


class Clock:
    """The clock of one episode."""

    def __init__(self, libraries: str, file: Path) -> None:
        """Have it right at first.

        Args:
            libraries: as `moved_by` returns them.
            file: what is added to the time, which is read anew each second.
        """
        self._libraries, self._file, self._offset_s = libraries, file, 0
        self.move(0)

    def move(self, seconds: int) -> None:
        """Set it, forwards or back."""
        self._offset_s += seconds
        self._file.write_text(f"{self._offset_s:+d}\n", encoding="utf-8")

    def environment(self) -> dict[str, str]:
        """Return what has a process and its children go by it."""
        return {
            "LD_PRELOAD": self._libraries,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def moved_by(folder: Path) -> str | None:
    """Return the libraries that move clocks, one of them compiled into a folder; None without them."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    compiler = shutil.which("cc")
    if not found or compiler is None:
        return None
    source, library = folder / "sleep.c", folder / "sleep.so"
    source.write_text(SLEEP, encoding="utf-8")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return f"{library}:{found[0]}"
