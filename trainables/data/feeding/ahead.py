"""Reading the next batch while the current one is trained on.

What is read is a function of its number alone, so reading ahead changes no result: whoever asks for
another number than the one that was guessed gets that one, read then.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class ReadAhead(Generic[Batch]):
    """Calls `read` for the number asked for and, in a thread, for the one after it.

    Args:
        read: number -> batch; safe to call in another thread.
        end: numbers from here on are not read ahead.
        ahead: False reads only what is asked for, in the caller's thread: where training and reading
            share one processor, nothing is gained.
    """

    def __init__(self, read: Callable[[int], Batch], *, end: int, ahead: bool) -> None:
        self._read, self._end = read, end
        self._thread = ThreadPoolExecutor(1, "read-ahead") if ahead else None
        self._guess: tuple[int, Future[Batch]] | None = None

    def __call__(self, number: int) -> Batch:
        """Return batch `number`; raises whatever reading it raises."""
        if self._thread is None:
            return self._read(number)
        guess, self._guess = self._guess, None
        batch = guess[1].result() if guess and guess[0] == number else self._read(number)
        if number + 1 < self._end:
            self._guess = (number + 1, self._thread.submit(self._read, number + 1))
        return batch
