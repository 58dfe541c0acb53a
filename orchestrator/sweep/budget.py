"""What a sweep may still spend: once the next run might exceed it, no further run is started.

Counted are the hours of GPUs that runs hold, a fraction for those that share one; where there are no
GPUs, the hours of CPU slots. Failed attempts count: they were paid for.
"""

import time
from collections.abc import Callable, Mapping

SECONDS_PER_HOUR = 3600.0


class Budget:
    """Device-hours, and who holds devices at present.

    Args:
        hours: to be spent by this sweep; what earlier sweeps spent is not counted.
        share: GPUs (or CPU slots) that a run holds, by key.
        expected: forecast seconds of each run, by key; unknown ones are taken to cost nothing.
        clock: seconds; another one in a simulation.
    """

    def __init__(
        self,
        hours: float,
        *,
        share: Mapping[str, float],
        expected: Mapping[str, float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.hours = hours
        self._share, self._expected, self._clock = share, expected, clock
        self._spent = 0.0
        self._since: dict[str, float] = {}
        """When each running run began, by key."""

    @property
    def spent(self) -> float:
        """Device-hours so far, those of runs that are under way included."""
        now = self._clock()
        running = sum((now - began) * self._share[key] for key, began in self._since.items())
        return (self._spent + running) / SECONDS_PER_HOUR

    def admits(self, key: str) -> bool:
        """Whether a run may start: it and all that is under way will, by the forecast, stay within."""
        now = self._clock()
        ahead = sum(
            max(self._expected.get(other, 0.0) - (now - began), 0.0) * self._share[other]
            for other, began in self._since.items()
        )
        own = self._expected.get(key, 0.0) * self._share[key]
        return self.spent + (ahead + own) / SECONDS_PER_HOUR <= self.hours

    def start(self, key: str) -> None:
        """Note that a run holds its share from now on."""
        self._since[key] = self._clock()

    def stop(self, key: str) -> None:
        """Note that a run has let go of it."""
        self._spent += (self._clock() - self._since.pop(key)) * self._share[key]
