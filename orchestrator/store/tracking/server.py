"""A tracking server of MLflow instead of the home's own database: one that a laboratory has for everybody.

The home names it in a file, so that every verb finds it. The driver alone writes to it; artifacts go straight
to the home, from where the server reads them, so it must see the same storage. A server is asked again for
some minutes before it is given up (MLFLOW_HTTP_REQUEST_MAX_RETRIES). Who may log in is MLflow's own affair:
MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from mlflow.entities import Experiment, LifecycleStage, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from orchestrator.errors import HdsweepError, InputError, chain
from orchestrator.store.home.home import Home

HOME = "home"  # Instead of an address: back to the home's own database.
PAGE = 1000  # Runs that are read at once; MLflow sends at most 50,000.
SET_ASIDE = "set aside"  # Stands in the name of an experiment that another took the place of.
SILENCE = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


class ServerError(HdsweepError):
    """The server of a home does not answer, or refuses."""

    def __init__(self, uri: str, error: Exception) -> None:
        super().__init__(
            f"the tracking server {uri} did not take what it was told: {_reason(error)}",
            hint="nothing that is finished is lost; the same command goes on where it stopped",
        )


class ServerClient(MlflowClient):  # type: ignore[misc]
    """MLflow's client of a server, whose errors are one line.

    Raises:
        ServerError: from every method.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(tracking_uri=uri)
        self._address = uri

    @contextlib.contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except MlflowException as error:
            raise ServerError(self._address, error) from error

    def get_experiment_by_name(self, name: str) -> Experiment | None:
        """Return an experiment; None if there is none."""
        with self._plain_errors():
            return super().get_experiment_by_name(name)

    def create_experiment(self, *args: Any, **kwargs: Any) -> str:
        """Make an experiment."""
        with self._plain_errors():
            return str(super().create_experiment(*args, **kwargs))

    def create_run(self, *args: Any, **kwargs: Any) -> Run:
        """Make a run."""
        with self._plain_errors():
            return super().create_run(*args, **kwargs)

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
        synchronous: bool | None = None,
    ) -> Any:
        """Write metrics, parameters and tags of a run."""
        with self._plain_errors():
            return super().log_batch(run_id, metrics, params, tags, synchronous)

    def log_inputs(self, *args: Any, **kwargs: Any) -> None:
        """Write what a run is trained on."""
        with self._plain_errors():
            super().log_inputs(*args, **kwargs)

    def update_run(self, run_id: str, status: str | None = None, name: str | None = None) -> None:
        """Change the status of a run."""
        with self._plain_errors():
            super().update_run(run_id, status, name)

    def set_terminated(
        self, run_id: str, status: str | None = None, end_time: int | None = None
    ) -> None:
        """Mark a run as ended."""
        with self._plain_errors():
            super().set_terminated(run_id, status, end_time)

    def get_metric_history(self, run_id: str, key: str) -> list[Metric]:
        """Return every value of a metric."""
        with self._plain_errors():
            found: list[Metric] = super().get_metric_history(run_id, key)
            return found


def connect(uri: str) -> MlflowClient:
    """Return a client of a server that answers.

    Raises:
        InputError: if it does not.
    """
    os.environ.setdefault(SILENCE, "true")  # It prints to standard output, which is for data.
    client = ServerClient(uri)
    try:
        with _impatient():
            client.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        raise InputError(
            f"the tracking server {uri} does not answer: {_reason(error)}",
            hint="start it, `mlflow server --host 127.0.0.1 --port 5000`, or tunnel to it",
        ) from error
    return client


def every_run(client: MlflowClient, experiment: str) -> list[Run]:
    """Return the runs of an experiment, newest first, those that somebody deleted too."""
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment],
            run_view_type=ViewType.ALL,
            max_results=PAGE,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        runs += page
        token = page.token
        if not token:
            return runs


def renamed(client: MlflowClient, name: str, place: str) -> Experiment | None:
    """Return the experiment of a home that somebody renamed: the one whose artifacts lie in it.

    Args:
        name: what it was called; one that `reconcile --rebuild` set aside is not meant.
        place: where its artifacts lie.
    """
    token = None
    while True:
        page = client.search_experiments(view_type=ViewType.ALL, page_token=token)
        for found in page:
            if found.artifact_location == place and not found.name.startswith(
                f"{name} {SET_ASIDE}"
            ):
                return found
        token = page.token
        if not token:
            return None


def is_deleted(run: Run) -> bool:
    """Whether somebody deleted a run in the UI."""
    return bool(run.info.lifecycle_stage == LifecycleStage.DELETED)


def check_address(uri: str) -> str:
    """Return the address of a server, as it is stored.

    Raises:
        InputError: if it is none, or holds a password.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"--tracking-uri {uri}: must be http://HOST:PORT or https://..., or `{HOME}`",
            hint="a database is served by `mlflow server --backend-store-uri ...`",
        )
    if "@" in parts.netloc:
        raise InputError(
            "--tracking-uri must hold no password: it is stored and shown",
            hint="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        )
    return uri.rstrip("/")


def choose(home: Home, uri: str | None) -> None:
    """Have a home keep its runs on a server from now on; it keeps to what it has if `uri` is None.

    Raises:
        InputError: if the address is wrong, nobody answers there, or the home keeps runs elsewhere.
    """
    if uri is None or uri == (home.tracking_uri or HOME):
        return
    if uri != HOME:
        uri = check_address(uri)
    if uri == home.tracking_uri:
        return
    if home.exists():
        has = home.tracking_uri or "its own database"
        raise InputError(
            f"home folder `{home.path}` keeps its runs in {has}, not in {uri}",
            hint=f"`hdsweep reconcile --rebuild --tracking-uri {uri}` moves them there",
        )
    move(home, uri)


def move(home: Home, uri: str | None) -> None:
    """Note where a home keeps its runs, whatever it has; none of them goes along by that.

    Raises:
        InputError: if the address is wrong or nobody answers there.
    """
    if uri == HOME:
        home.tracking_file.unlink(missing_ok=True)
    elif uri is not None:
        address = check_address(uri)
        connect(address)
        home.note_tracking(address)


def _reason(error: BaseException) -> str:
    """Return the first line of what was at the bottom of it: `Connection refused`, say."""
    *_, bottom = chain(error)
    return str(bottom).strip().splitlines()[0]


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Have MLflow ask once or twice only: whoever typed a wrong address should not wait for minutes."""
    before = os.environ.get(RETRIES)
    os.environ[RETRIES] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[RETRIES]
        else:
            os.environ[RETRIES] = before
