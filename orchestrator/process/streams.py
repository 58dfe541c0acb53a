"""Standard output and error, whatever they are: another encoding, a full device, closed, gone; and names.

Work is stored before anything of it is printed, and what cannot be printed never undoes it. Characters that
the encoding lacks are written as what they look like; talk that cannot be written is dropped; data that
cannot be is one line on standard error and a status that says so.
"""

import codecs
import contextlib
import io
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.errors import HdsweepError, InputError

OPTIMIZED = ("-O", "-OO")
HANDLER = "hdsweep.lookalike"
LOOKALIKES = {
    "±": "+/-",
    "×": "x",
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "†": "+",
    "‡": "++",
    "≤": "<=",
    "≥": ">=",
    "→": "->",
    "λ": "lambda",
    "✓": "v",
    "✗": "x",
    "•": "*",
    "’": "'",
    "─": "-",
    "│": "|",
}


class OutputError(HdsweepError):
    """Standard output cannot be written."""


def lookalike(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what to write for characters that an encoding lacks; an error handler of `codecs`.

    A byte of a file name that could not be decoded is written as it was.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if 0xDC80 <= ord(character) <= 0xDCFF:
        return bytes([ord(character) - 0xDC00]), error.start + 1
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
    return LOOKALIKES.get(character) or plain or "?", error.start + 1


codecs.register_error(HANDLER, lookalike)


class _Data(io.TextIOWrapper):
    """Standard output: who reads it may go away, as ever; where it fails otherwise, the rest is dropped.

    Nothing is raised here, since libraries that try out a stream swallow what is raised.
    """

    failed: OSError | None = None

    def write(self, text: str) -> int:
        with self._noted():
            # A full device refuses even nothing; only text is an error to find out about.
            return super().write(text) if text or not isinstance(text, str) else 0
        return len(text)

    def flush(self) -> None:
        with self._noted():
            super().flush()

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            self.failed = error
            # What is left in the buffers goes nowhere, or the end of Python trips over it.
            _to_nowhere(self.fileno())


class _Talk(io.TextIOWrapper):
    """Standard error: what cannot be written is dropped."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def start_as_meant() -> None:
    """Start this command anew where Python was told to take names of files, or our texts, otherwise.

    Arrow and SQLite take names as UTF-8 whatever the locale; what is printed stays in the encoding of the
    terminal. And without docstrings (`-OO`, PYTHONOPTIMIZE=2) there is no help, and Ray does not start.
    Workers and other children inherit both.
    """
    arguments = [each for each in sys.orig_argv[1:] if each not in OPTIMIZED]
    told = os.environ.pop("PYTHONOPTIMIZE", None) is not None or arguments != sys.orig_argv[1:]
    again = bool(sys.flags.optimize) and told
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        encoding = getattr(sys.stdout, "encoding", None) or "ascii"
        os.environ.setdefault("PYTHONIOENCODING", f"{encoding}:backslashreplace")
        os.environ["PYTHONUTF8"] = "1"
        again = True
    if again:
        os.execv(sys.executable, [sys.executable, *arguments])


def require_working_directory() -> None:
    """Raise an InputError if the working directory is gone, from which relative paths start, and Ray."""
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(
            f"the working directory cannot be used: {error.strerror}",
            hint="it was deleted or moved; `cd` to one that is there",
        ) from error


def require_utf8(names: Iterable[str]) -> None:
    """Raise an InputError at a name that is not UTF-8, which neither Arrow nor a database could keep."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            shown = name.encode("ascii", "backslashreplace").decode("ascii")
            raise InputError(
                f"{shown}: not a name in UTF-8", hint="rename it, or use a link with another name"
            ) from error


def make_robust() -> None:
    """Make standard output and error as described above, for the rest of this process."""
    _fill_closed()
    sys.stdout = _rewrapped(_Data, sys.stdout, 1)
    sys.stderr = _rewrapped(_Talk, sys.stderr, 2)


def require_written() -> None:
    """Write what is left of standard output.

    Raises:
        OutputError: if that, or anything before it, could not be written.
    """
    sys.stdout.flush()
    error = getattr(sys.stdout, "failed", None)
    if error is not None:
        raise OutputError(f"standard output cannot be written: {error.strerror}")


def _fill_closed() -> None:
    """Open what is closed of the first three descriptors, which the database would get otherwise."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            _to_nowhere(descriptor)


def _to_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _rewrapped(kind: type[io.TextIOWrapper], stream: Any, descriptor: int) -> io.TextIOWrapper:
    """Return a stream of this kind over the buffer of another, which stays as it is."""
    binary = getattr(stream, "buffer", None)
    if binary is None:  # It was closed.
        binary = os.fdopen(descriptor, "wb", closefd=False)
    talk = kind is _Talk
    return kind(
        binary,
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors=HANDLER,
        line_buffering=talk or getattr(stream, "line_buffering", False),
        write_through=getattr(stream, "write_through", False),
    )
