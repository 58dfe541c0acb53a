"""Whether a run that failed is tried again, and how: decided by what is known of it, and by nothing else."""

from dataclasses import dataclass, replace

from orchestrator.store.failures import Failure
from trainables.config import LedmConfig, RunSpec

LEAST_PROGRESS = 0.01  # Part of a run by which it must have got further for a loss not to count.


@dataclass(frozen=True)
class RunRecord:
    """What a sweep knows of one run, over all its attempts."""

    tries: int = 0
    """Attempts that count against its retries."""
    cause: Failure | None = None
    """Why the last attempt failed."""
    micro_batch: int | None = None
    """Images at once, where memory did not suffice for more; None as long as it did."""
    reached: float = 0.0
    """How far it was when last heard of, in [0, 1]."""
    lost_at: float = 0.0
    """How far it had come when it last lost its worker, in [0, 1]."""
    furthest: int | None = None
    """The last update that it told of, whatever the attempt; None if nobody asked the store yet."""


@dataclass(frozen=True)
class Decision:
    """What is done about a failure."""

    again: bool
    record: RunRecord
    """What is known of the run from now on."""


def decide(
    record: RunRecord, failure: Failure, *, retries: int, micro_batch: int | None, nodes: int
) -> Decision:
    """Return what is done about a failure of a run.

    Args:
        record: of the run, before this failure was taken in.
        retries: further attempts after one that counts.
        micro_batch: images that the run has in memory at once by its spec; None if that cannot be less.
        nodes: on how many nodes of a cluster the run has failed.
    """
    known = replace(record, cause=failure)
    if failure.permanent:
        return Decision(False, known)
    if failure.kind == "preempted":
        return Decision(True, _uncounted(known))
    if failure.kind == "worker_lost":
        # A machine that is reclaimed or unplugged often looks like a worker that died. What loses its
        # worker again and again at one place is another matter, and runs out of retries.
        got_on = record.reached > record.lost_at + LEAST_PROGRESS
        known = replace(known, lost_at=max(record.reached, record.lost_at))
        if got_on:
            return Decision(True, _uncounted(known))
    current = record.micro_batch or micro_batch
    if failure.kind == "out_of_memory" and current is not None and current > 1:
        return Decision(True, replace(_uncounted(known), micro_batch=(current + 1) // 2))
    if failure.kind == "error" and _same(record.cause, failure) and nodes != 1:
        # Deterministic: a third attempt would end like the first two.
        return Decision(False, known)
    return Decision(record.tries <= retries, known)


def micro_batch_of(spec: RunSpec) -> int | None:
    """Return how many images of a run are in memory at once; None if that cannot be made smaller.

    Only an ADM's batch can be split without changing what is computed: the others normalise over it.
    """
    if spec.network.family != "adm" or isinstance(spec.training, LedmConfig):
        return None
    return spec.training.micro_batch or spec.training.batch


def _uncounted(record: RunRecord) -> RunRecord:
    """Return a record whose last attempt does not count: it ended by nobody's fault."""
    return replace(record, tries=record.tries - 1)


def _same(before: Failure | None, failure: Failure) -> bool:
    return before is not None and before.fingerprint == failure.fingerprint
