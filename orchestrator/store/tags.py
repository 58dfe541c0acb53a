"""Names of the tags by which a run of MLflow is known for what it is."""

OURS = "hdsweep."
"""How the names begin of all that are ours."""

KIND, KEY, ATTEMPT = "hdsweep.kind", "hdsweep.key", "hdsweep.attempt"
KINDS = ("run", "sweep", "summary", "group")
NAME, PARENT = "mlflow.runName", "mlflow.parentRunId"
