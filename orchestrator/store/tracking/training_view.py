"""Where MLflow's UI shows what a home has: two addresses that work in a browser that was never there.

By itself MLflow 3 opens an experiment among traces and prompts, with columns that say nothing of a
sweep. The addresses ask for its view of trainings, and for columns that are kept with the experiment
in the way that MLflow's own Share button keeps them.
"""

import contextlib
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from orchestrator.store.home.home import Home
from orchestrator.store.home.read_only import reading
from orchestrator.store.tracking.database import experiment_name

WORKFLOW = "workflowType=machine_learning"
VIEW = "hdsweep"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
# Each training a row. Without it, MLflow folds them all into one row of their sweep.
TRAININGS = "tags.`hdsweep.kind` = 'run'"
COLUMNS = {
    "attributes.`Run Name`": 330,  # The longest name of a run, with its seed.
    "attributes.`Created`": 130,  # Its sign is the state of the run.
    # What the names do not say comes first: of a small window, MLflow's own panel takes a third.
    "metrics.`test_jaccard`": 100,
    "metrics.`test_miou_ledm`": 120,
    "params.`training.mask_weight`": 150,
    "params.`start.mask_weight`": 120,
    "tags.`hdsweep.methods`": 150,
    "tags.`hdsweep.dataset`": 140,
    "tags.`hdsweep.seed`": 100,
    "attributes.`Dataset`": 200,
}
"""Pixels of each, in the order in which they stand."""
NEWEST_SWEEP = (
    "SELECT r.run_uuid FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid"
    " WHERE r.experiment_id = ? AND r.lifecycle_stage = 'active'"
    " AND t.key = 'hdsweep.kind' AND t.value = 'sweep' ORDER BY r.start_time DESC"
)


@dataclass(frozen=True)
class Addresses:
    """What there is to open below the address of a server of MLflow."""

    runs: str
    """The list of runs."""
    report: str | None
    """The report of the newest sweep; None before a table was stored."""


def view_state() -> str:
    """Return the filter and the columns of the list of runs, as MLflow reads them."""
    state = {
        "searchFilter": TRAININGS,
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(COLUMNS),
        "columnOrder": list(COLUMNS),
        "columnWidths": COLUMNS,
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "FIRST_10_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "autoRefreshEnabled": True,
    }
    return json.dumps(state)


def addresses(home: Home, database: Path) -> Addresses | None:
    """Return what to open in the database of a home, or a copy; None if it has no experiment of ours."""
    with reading(database) as connection:
        found = connection.execute(
            "SELECT experiment_id FROM experiments WHERE name = ?", (experiment_name(home),)
        ).fetchone()
        if found is None:
            return None
        sweeps = [run for (run,) in connection.execute(NEWEST_SWEEP, found)]
        _keep_view(connection, found[0])
    there = (run for run in sweeps if (home.artifacts / run / "artifacts/report.html").is_file())
    newest = next(there, None)
    place = f"/#/experiments/{found[0]}/runs"
    report = newest and f"{place}/{newest}/artifacts/report.html?{WORKFLOW}"
    return Addresses(f"{place}?viewStateShareKey={VIEW}&{WORKFLOW}", report)


def _keep_view(connection: sqlite3.Connection, experiment: int) -> None:
    """Keep our columns with the experiment; where it cannot be written, MLflow's own are shown."""
    with contextlib.suppress(sqlite3.Error), connection:
        connection.execute(
            "INSERT OR REPLACE INTO experiment_tags (key, value, experiment_id) VALUES (?, ?, ?)",
            (VIEW_TAG, view_state(), experiment),
        )
