"""Telling somebody outside how a sweep or a search goes: a POST to a URL, or a command that reads JSON.

Told are its end, its first failure and a stall, never its data: no path, no environment, no secret.
Each receiver has a thread of its own, so a slow one holds up neither the sweep nor another receiver;
one that cannot be reached is a line to people, and changes nothing else.
"""

import base64
import contextlib
import http.client
import json
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from orchestrator.errors import InputError
from orchestrator.plan.plan import Plan
from orchestrator.process.stopping import Say
from orchestrator.sweep.events import Event, OnEvent
from orchestrator.wording import duration, one_line

URL_TIMEOUT_S, COMMAND_TIMEOUT_S = 10.0, 30.0
LAST_WAIT_S = 5.0  # How long the end of a sweep waits for what is still being sent.
LONGEST_CAUSE = 500  # Characters.
COUNTED = ("reused", "finished", "failed", "blocked")

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")
SHELL = re.compile(r"\d?(>>?|<<?|>&|&>)\S*|\|\|?|&&?|;")  # What only a shell understands.
QUOTED_PATH = re.compile(r"(['\"`])(?:~|\.{1,2})?/.*?\1")
BARE_PATH = re.compile(r"(?<![\w.~/<])(?:~\w*|\.{1,2})?/[^\s'\"`,;:()]+")


class NotSentError(Exception):
    """A notification did not arrive; the message says why, and repeats nothing secret."""


class Receiver(Protocol):
    """Who is told."""

    @property
    def shown(self) -> str:
        """What people may read of it: no password, no token, no argument."""

    def send(self, body: bytes) -> None:
        """Hand over one message.

        Raises:
            NotSentError: if it did not arrive.
        """


@dataclass(frozen=True)
class Url:
    """A POST to a web address."""

    address: str = field(repr=False)
    """Without user and password."""
    shown: str
    user: str | None = field(default=None, repr=False)
    """`user:password`, for basic authentication."""

    def send(self, body: bytes) -> None:
        """Hand over one message."""
        headers = {"Content-Type": "application/json", "User-Agent": "hdsweep"}
        if self.user is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(self.user.encode()).decode()}"
        request = urllib.request.Request(self.address, body, headers, method="POST")
        opener = urllib.request.build_opener(_NoRedirects)
        try:
            opener.open(request, timeout=URL_TIMEOUT_S).close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise NotSentError(_why_not(error)) from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A message goes where the user said: elsewhere it would be a GET without the message."""

    def redirect_request(self, *args: Any) -> None:  # noqa: ARG002
        return None


def _why_not(error: Exception) -> str:
    """Return the reason without the address, which the text of some errors repeats."""
    if isinstance(error, urllib.error.HTTPError):
        redirected = ", a redirect, which is not followed" if 300 <= error.code < 400 else ""
        return f"it answered {error.code}{redirected}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {duration(URL_TIMEOUT_S)}"
    known = isinstance(cause, OSError) and cause.strerror
    return str(known or type(cause).__name__)


@dataclass(frozen=True)
class Command:
    """A program that finds the message on its standard input; no shell comes in between."""

    arguments: tuple[str, ...] = field(repr=False)

    @property
    def shown(self) -> str:
        """The program alone: arguments may hold secrets."""
        return Path(self.arguments[0]).name

    def send(self, body: bytes) -> None:
        """Hand over one message."""
        silent = subprocess.DEVNULL  # Our standard output carries data only.
        try:
            # In a session of its own: Ctrl-C ends the sweep, and not the news of it.
            process = subprocess.Popen(
                self.arguments,
                stdin=subprocess.PIPE,
                stdout=silent,
                stderr=silent,
                start_new_session=True,
            )
        except OSError as error:
            raise NotSentError(error.strerror or type(error).__name__) from error
        try:
            process.communicate(body, timeout=COMMAND_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            took = duration(COMMAND_TIMEOUT_S)
            raise NotSentError(f"not done within {took}, and stopped") from error
        if process.returncode:
            raise NotSentError(f"exit status {process.returncode}")


def receiver(what: str) -> Receiver:
    """Return who is meant by a URL or a command.

    Raises:
        InputError: if it can be neither.
    """
    return _url(what) if URL.match(what) else _command(what)


def _url(what: str) -> Url:
    try:
        parts = urllib.parse.urlsplit(what)
        host, port = parts.hostname, parts.port
    except ValueError as error:  # Its text may repeat a password.
        raise InputError("--notify: the URL is not valid", hint=_example()) from error
    if parts.scheme not in ("http", "https"):
        raise InputError(
            f"--notify {parts.scheme}://...: must be http, https or a command", hint=_example()
        )
    if not host or not what.isascii() or not what.isprintable() or " " in what:
        raise InputError(f"--notify {parts.scheme}://...: no valid host or path", hint=_example())
    place = f"[{host}]" if ":" in host else host
    place = f"{place}:{port}" if port is not None else place
    user = None
    if parts.username is not None:
        names = (parts.username, parts.password or "")
        user = ":".join(urllib.parse.unquote(name) for name in names)
    address = parts._replace(netloc=place, fragment="").geturl()
    return Url(address, f"{parts.scheme}://{place}/...", user)


def _command(what: str) -> Command:
    try:
        arguments = tuple(shlex.split(what))
    except ValueError as error:
        raise InputError(f"--notify: the command is not valid: {error}") from error
    if not arguments or not arguments[0]:
        raise InputError("--notify: is empty", hint=_example())
    shells = [each for each in arguments if SHELL.fullmatch(each)]
    if shells:
        raise InputError(
            f"--notify: `{shells[0]}` is for a shell, and none is used",
            hint=f"`--notify {shlex.quote('sh -c ' + shlex.quote(what))}`",
        )
    if shutil.which(arguments[0]) is None:
        raise InputError(f"--notify: there is no command `{arguments[0]}`", hint=_example())
    return Command(arguments)


def _example() -> str:
    return "such as https://ntfy.sh/TOPIC, or 'mail -s sweep ME@EXAMPLE.ORG'"


class _Messenger(threading.Thread):
    """Sends to one receiver, message after message; the process need not wait for it to end."""

    def __init__(self, to: Receiver, say: Say) -> None:
        super().__init__(name=f"notify {to.shown}", daemon=True)
        self.to, self._say = to, say
        self.waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        while (body := self.waiting.get()) is not None:
            try:
                self.to.send(body)
            except NotSentError as error:
                self._say(f"notification to {self.to.shown} failed: {error}")
            except Exception as error:  # noqa: BLE001 - whatever it is, the sweep goes on.
                self._say(f"notification to {self.to.shown} failed: {type(error).__name__}")


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What somebody is told of: a sweep or a search."""

    names: Mapping[str, str]
    """Fields that every message has: `study`, `scale`, and what else tells it from others."""
    title: str
    """For people."""
    unit: str
    """What is counted, in the plural."""
    count: Callable[[Mapping[str, int]], Mapping[str, int]]
    """From how many events of each kind there were: `planned`, then how many came to each end."""


def watched_sweep(plan: Plan) -> Watched:
    """Return what is told of a sweep: its runs, counted as in the summary of the command."""
    return Watched(
        names={"study": plan.study, "scale": plan.scale},
        title=f"{plan.study} ({plan.scale})",
        unit="runs",
        count=lambda seen: {
            "planned": len(plan.runs),
            **{name: seen.get(name, 0) for name in COUNTED},
        },
    )


class _Watch:
    """What is known of a sweep or search that somebody is told of."""

    def __init__(self, watched: Watched, tell: Callable[[bytes], None], stall_s: float) -> None:
        self._watched, self._tell, self._stall_s = watched, tell, stall_s
        self._counts: Counter[str] = Counter()
        self._last_sign = time.monotonic()
        self._sign, self._over = threading.Event(), False
        self._thread = threading.Thread(target=self._watch, name="notify watch", daemon=True)
        self._thread.start()

    def take(self, event: Event) -> None:
        """Take in a change, in no time."""
        self._last_sign = time.monotonic()
        self._sign.set()
        self._counts[event.kind] += 1
        if event.kind == "failed" and self._counts["failed"] == 1:
            cause = without_paths(event.message)
            self._send(
                "first_failure",
                f"{event.run.label} failed: {cause}",
                label=event.run.label,
                cause=cause,
            )

    def end(self) -> None:
        """Say that it is over, as far as it came."""
        self._over = True
        self._sign.set()
        self._thread.join()
        counts = self.counts()
        named = ", ".join(f"{n} {name}" for name, n in counts.items() if name != "planned")
        left = counts["planned"] - sum(n for name, n in counts.items() if name != "planned")
        how = "stopped early, the same command goes on" if left else "done"
        self._send(
            "finished",
            f"{how}: {named} of {counts['planned']} {self._watched.unit}",
            counts={**counts, "interrupted": bool(left)},
        )

    def counts(self) -> dict[str, int]:
        """Return how many are planned, and how many came to each end."""
        return dict(self._watched.count(self._counts))

    def _watch(self) -> None:
        """Tell of a stall, once for each: only a sign of life makes another one possible."""
        told = False
        while not self._over:
            silent = time.monotonic() - self._last_sign
            if silent >= self._stall_s and not told:
                told = True
                self._send(
                    "stalled", f"no sign of life for {duration(silent)}", counts=self.counts()
                )
            # Told, there is nothing to wait for but a sign.
            if self._sign.wait(None if told else max(self._stall_s - silent, 0.0)):
                self._sign.clear()
                told = False

    def _send(self, event: str, text: str, **details: Any) -> None:
        text = f"{self._watched.title}: {text}"
        message: Mapping[str, Any] = {"event": event, **self._watched.names, "text": text}
        self._tell(json.dumps({**message, **details}, allow_nan=False).encode())


@contextlib.contextmanager
def notifying(
    receivers: Sequence[Receiver],
    watched: Watched,
    on_event: OnEvent,
    say: Say,
    *,
    stall_s: float,
) -> Iterator[OnEvent]:
    """Yield what is to be told of every change: it tells `on_event`, and the receivers what matters.

    Args:
        say: told, from other threads, of a notification that failed.
        stall_s: seconds without any event that count as a stall.
    """
    if not receivers:
        yield on_event
        return
    messengers = [_Messenger(each, say) for each in receivers]

    def tell(body: bytes | None) -> None:
        for messenger in messengers:
            messenger.waiting.put(body)

    watch = _Watch(watched, tell, stall_s)

    def on_any(event: Event) -> None:
        on_event(event)
        watch.take(event)

    try:
        yield on_any
    finally:
        watch.end()
        tell(None)
        _wait_for(messengers, say)


def _wait_for(messengers: Sequence[_Messenger], say: Say) -> None:
    deadline = time.monotonic() + LAST_WAIT_S
    for messenger in messengers:
        messenger.join(max(deadline - time.monotonic(), 0.0))
        if messenger.is_alive():
            waited = duration(LAST_WAIT_S)
            say(f"notification to {messenger.to.shown}: not done after {waited}, not waited for")


def without_paths(cause: str) -> str:
    """Return the cause of a failure as one line that says nothing of where files lie."""
    line = URL.sub("<url>", one_line(cause))
    line = BARE_PATH.sub("<path>", QUOTED_PATH.sub("<path>", line))
    return line if len(line) <= LONGEST_CAUSE else f"{line[:LONGEST_CAUSE]}..."
