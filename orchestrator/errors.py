"""Every error that a user can cause: one clear line, a hint, an exit code, no traceback.

The first line says what is wrong and where, the hint says what would be right. The command line
prints `error: <message>` to standard error and exits with `exit_code`.
"""

import difflib
from collections.abc import Iterable, Iterator


class HdsweepError(Exception):
    """Base of all errors that are shown without a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{message}\n\nhint: {hint}" if hint else message)
        self.message, self.hint = message, hint


class InputError(HdsweepError):
    """What the user asked for is wrong; nothing was started and nothing was lost."""

    exit_code = 2


class UnknownNameError(InputError):
    """A name (method, target, scale, key of a file, ...) that does not exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, where: str) -> None:
        super().__init__(f"unknown {kind} `{name}` at {where}", hint=nearest(kind, name, known))


def require_one_of(flag: str, value: str, known: Iterable[str]) -> None:
    """Raise an InputError that lists what is known unless a value of a flag is."""
    names = tuple(known)
    if value not in names:
        raise InputError(f"{flag} {value}: must be one of {', '.join(names)}")


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it was raised from or during, and so on."""
    inner: BaseException | None = error
    while inner is not None:
        yield inner
        inner = inner.__cause__ or inner.__context__


def nearest(kind: str, name: str, known: Iterable[str]) -> str:
    """Return "did you mean ...?", or the list of what exists where nothing is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    kinds = "studies" if kind == "study" else f"{kind}s"
    return f"did you mean `{close[0]}`?" if close else f"known {kinds}: {', '.join(names)}"
