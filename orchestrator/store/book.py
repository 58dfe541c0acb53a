"""What a driver writes to MLflow, and remembers of it: the one place where both are done.

People delete, restore and edit runs in the UI while a sweep is at work, and MLflow refuses to write to what
is deleted. What the sweep still needs is brought back then and told of in a line: restored if MLflow has it,
made again if it is gone for good (`mlflow gc`). A value that MLflow takes from nobody, say a parameter that
somebody set otherwise, is left out and told of: the folders have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.process.stopping import Say
from orchestrator.store.home.home import Home
from orchestrator.store.tags import NAME
from orchestrator.store.tracking.database import Known
from orchestrator.store.tracking.refusals import GONE, OF_CONTENT, code_of, reason_of
from orchestrator.wording import in_short

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric
    from mlflow.tracking import MlflowClient

LONGEST_TAG = 5000  # Characters; MLflow takes 8000.
ENDED = ("FINISHED", "FAILED", "KILLED")
DELETED = "deleted"
MOST_NAMED = 4  # Runs or values that a line lists.

OnReplaced = Callable[[Known, Known], None]
"""Told of a run that was made again, before and after: its id is another."""


class Book:
    """Writes to the MLflow runs of one experiment, and returns what they are then."""

    def __init__(
        self,
        home: Home,
        client: MlflowClient,
        experiment: str,
        *,
        tell: Say,
        deleted: set[str],
        on_replaced: OnReplaced,
    ) -> None:
        """Write to an experiment by its id.

        Args:
            tell: takes a line about what people did to it.
            deleted: ids of the runs that were deleted before, and stay so.
        """
        self._home, self._client, self.experiment = home, client, experiment
        self._tell, self._deleted, self._on_replaced = tell, deleted, on_replaced
        self._params: dict[str, Mapping[str, object]] = {}
        """Of the runs that have not ended, in case that one has to be made again; by id."""

    def create(self, name: str, tags: Mapping[str, str], started_ms: int | None = None) -> Known:
        """Make a run; in an experiment that is there again if somebody deleted it."""
        written = {key: writable(value) for key, value in tags.items()}

        def make() -> Known:
            run = self._client.create_run(
                self.experiment, start_time=started_ms, run_name=writable(name), tags=written
            )
            return Known.of(run)

        try:
            return make()
        except Exception as error:
            if code_of(error) not in (GONE, *OF_CONTENT) or not self._mend_experiment():
                raise
        return make()

    def write(
        self,
        known: Known,
        *,
        metrics: Sequence[Metric] = (),
        last: Mapping[str, float] | None = None,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
        status: str | None = None,
        ended_ms: int | None = None,
    ) -> Known:
        """Write what there is to a run, in as few transactions as MLflow allows, and return it.

        Args:
            last: last values of metrics, to be remembered.
            status: written last, when all else is there.
        """
        if metrics or params or tags:
            known = self._do(
                known, lambda run: self._batch(run, metrics, params or {}, tags or {})
            )
            known = known.now(tags=tags, metrics=last)
        if params:
            self._params[known.run_id] = params
            known = replace(known, has_params=True)
        if status in ENDED:
            known = self._do(
                known, lambda run: self._client.set_terminated(run.run_id, status, ended_ms)
            )
            self._params.pop(known.run_id, None)
        elif status is not None:
            known = self._do(known, lambda run: self._client.update_run(run.run_id, status))
        return known.now(status=status)

    def note_dataset(self, known: Known, data: DatasetInput | None) -> Known:
        """Write which data a run is trained on; what MLflow does not take is left out."""
        if data is None:
            return known
        try:
            return self._do(known, lambda run: self._client.log_inputs(run.run_id, [data]))
        except Exception as error:
            if code_of(error) not in OF_CONTENT:
                raise
        return known

    def history(self, known: Known) -> set[tuple[str, int]]:
        """Return the name and step of every value that was logged to a run."""
        try:
            return {
                (name, metric.step)
                for name in known.metrics
                for metric in self._client.get_metric_history(known.run_id, name)
            }
        except Exception as error:
            if code_of(error) != GONE:
                raise
        return set()

    def delete(self, known: Known) -> None:
        """Delete a run, as people do in the UI."""
        try:
            self._client.delete_run(known.run_id)
        except Exception as error:
            if code_of(error) not in (GONE, *OF_CONTENT):
                raise
        self._deleted.add(known.run_id)

    def is_gone(self, known: Known) -> bool:
        """Whether MLflow knows nothing of a run any more."""
        try:
            self._client.get_run(known.run_id)
        except Exception as error:
            if code_of(error) != GONE:
                raise
            return True
        return False

    def restore(self, found: Sequence[Known]) -> None:
        """Restore runs that somebody deleted, and tell of them in one line."""
        if not found:
            return
        self._mend_experiment()
        for known in found:
            self._client.restore_run(known.run_id)
        self._tell_of(found, "deleted in MLflow", "restored")

    def make_again(self, known: Known) -> Known:
        """Make a run anew that is gone for good; return it as it is now."""
        kept = {name: value for name, value in known.tags.items() if name != NAME}
        fresh = self.create(known.name, kept, known.started_ms)
        now = replace(fresh, status=known.status)
        params = self._params.get(known.run_id)
        if params:
            self._batch(fresh, (), params, {})
            self._params[fresh.run_id] = params
            now = replace(now, has_params=True)
        if known.status in ENDED:
            self._client.set_terminated(fresh.run_id, known.status)
        self._on_replaced(known, now)
        return now

    def _do(self, known: Known, work: Callable[[Known], object]) -> Known:
        """Do something to a run, once more if it had to be brought back; return the run it was."""
        try:
            work(known)
        except Exception as error:
            if code_of(error) not in (GONE, *OF_CONTENT):
                raise
            mended = self._mended(known)
            if mended is None:
                raise
            work(mended)
            return mended
        return known

    def _mended(self, known: Known) -> Known | None:
        """Bring a run back that somebody deleted; None if it is there, and refused something else."""
        experiment = self._mend_experiment()
        try:
            run = self._client.get_run(known.run_id)
        except Exception as error:
            if code_of(error) != GONE:
                raise
            again = self.make_again(known)
            self._tell_of([known], "deleted in MLflow for good", "there again")
            return again
        if run.info.lifecycle_stage == DELETED:
            self.restore([known])
            return known
        return known if experiment else None

    def _mend_experiment(self) -> bool:
        """Restore the experiment if somebody deleted it; False if it was there."""
        try:
            found = self._client.get_experiment(self.experiment)
        except Exception as error:
            if code_of(error) != GONE:
                raise
            from orchestrator.store.tracking import client as tracking

            self.experiment = tracking.create_experiment(self._client, self._home)
            self._tell("the experiment had been deleted in MLflow for good: made again")
            return True
        if found.lifecycle_stage != DELETED:
            return False
        self._client.restore_experiment(self.experiment)
        for run_id in self._deleted:  # They were deleted before, and one by one.
            self._client.delete_run(run_id)
        self._tell(f"the experiment `{found.name}` had been deleted in MLflow: restored")
        return True

    def _batch(
        self,
        known: Known,
        metrics: Sequence[Metric],
        params: Mapping[str, object],
        tags: Mapping[str, str],
    ) -> None:
        """Write several values; those that are refused for themselves are left out and told of."""
        from mlflow.entities import Param, RunTag

        as_params = [Param(name, writable(value)) for name, value in params.items()]
        as_tags = [RunTag(name, writable(value)) for name, value in tags.items()]

        def log(
            metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[RunTag]
        ) -> None:
            self._client.log_batch(known.run_id, metrics=metrics, params=params, tags=tags)

        try:
            log(metrics, as_params, as_tags)
        except Exception as error:
            if code_of(error) not in OF_CONTENT or self._is_away(known):
                raise
        else:
            return
        self._one_by_one(known, log, metrics, as_params, as_tags)

    def _one_by_one(self, known: Known, log: Callable[..., None], *parts: Sequence[Any]) -> None:
        """Write values one by one, and tell in a line which are refused."""
        left_out, why = [], ""
        for place, part in enumerate(parts):
            for each in part:
                one = [[each] if place == at else [] for at in range(len(parts))]
                try:
                    log(*one)
                except Exception as error:
                    if code_of(error) not in OF_CONTENT:
                        raise
                    left_out.append(each.key)
                    why = why or reason_of(error)
        if left_out:
            named = in_short(left_out, most=MOST_NAMED)
            self._tell(f"MLflow refused {named} of `{known.name}`: {why}")

    def _is_away(self, known: Known) -> bool:
        """Whether a run is deleted, for good or not."""
        try:
            return bool(self._client.get_run(known.run_id).info.lifecycle_stage == DELETED)
        except Exception as error:
            if code_of(error) != GONE:
                raise
            return True

    def _tell_of(self, found: Sequence[Known], what: str, done: str) -> None:
        named = in_short([f"`{known.name}`" for known in found], most=MOST_NAMED)
        self._tell(f"{named} had been {what} in the meantime: {done}")


def writable(value: object) -> str:
    """Return a value as MLflow takes it: short enough, and no half of a character."""
    return str(value).encode("utf-8", "backslashreplace").decode()
