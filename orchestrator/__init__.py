"""Decides what runs, runs it and stores it; never touches a tensor."""

import os

# Before anything imports MLflow, which sends usage figures away otherwise.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
