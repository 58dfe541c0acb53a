"""What the MLflow run of a sweep is tagged with."""

from orchestrator.plan.plan import Plan
from orchestrator.store.sweeps.records import SWEEP, SWEEP_KEY, SWEEP_NAME

LONGEST = 500  # Characters of a command.


def sweep_labels(plan: Plan, command: str) -> dict[str, str]:
    """Return the tags of a sweep: what it is, what made it, and what it must not be taken for."""
    identity = plan.identity
    labels = {
        SWEEP: identity.base,
        SWEEP_KEY: identity.key,
        SWEEP_NAME: identity.name,
        "hdsweep.subset": str(bool(identity.subset)).lower(),
        "hdsweep.command": command[:LONGEST],
        "mlflow.source.name": command[:LONGEST],
        "mlflow.source.type": "LOCAL",
        "hdsweep.generated": str(plan.generated).lower(),
        "hdsweep.planned": str(len(plan.runs)),
        "hdsweep.comparable": str(plan.comparable).lower(),
    }
    labels |= {f"hdsweep.set.{path}": value for path, value in identity.differences}
    if plan.generated:
        labels["mlflow.note.content"] = "Generated data: nothing here is a result on real images."
    return labels
