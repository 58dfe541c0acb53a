"""Decides what runs, runs it and stores it; never touches a tensor."""

import os
from pathlib import Path

from orchestrator.pinned import pin

ROOT = str(Path(__path__[0]).parent)
"""The folder, or the zip file, that our packages are in."""
PLACES = {"trainables": ROOT, "search_spaces": ROOT}

# Before anything of ours is imported: not those of another checkout that `PYTHONPATH` names.
pin(PLACES)
# Before anything imports MLflow, which sends usage figures away otherwise.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
