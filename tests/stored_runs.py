"""What a worker leaves behind, made up, so that the store can be tried without training anything."""

import hashlib
import json

from orchestrator.store.store import Store

HISTORY = [["loss", 1, 0.5, 1000], ["loss", 2, 0.25, 2000]]


def fill(attempt, *, metrics=None, spec='{"stage": "pretraining"}'):
    """Leave what a worker leaves, result last."""
    attempt.artifacts.mkdir(parents=True, exist_ok=True)
    (attempt.artifacts / "spec.json").write_text(spec)
    (attempt.artifacts / "weights.safetensors").write_bytes(b"weights")
    manifest = {
        name: {
            "sha256": hashlib.sha256((attempt.artifacts / name).read_bytes()).hexdigest(),
            "bytes": (attempt.artifacts / name).stat().st_size,
        }
        for name in ("spec.json", "weights.safetensors")
    }
    result = {
        "key": attempt.key,
        "attempt": attempt.number,
        "metrics": metrics or {"final_loss": 0.25},
        "updates": 2,
        "seconds": 1.5,
        "history": HISTORY,
        "artifacts": manifest,
        "environment": {"torch": "2.15.0", "device": "cpu"},
    }
    (attempt.artifacts / "result.json").write_text(json.dumps(result))


def committed(home, plan, run):
    with Store.open(home) as store:
        store.begin_sweep(plan)
        attempt = store.start(run)
        fill(attempt)
        return store.commit(run.key, attempt)


def metric_history(store, key, name):
    run_id = store.finished()[key].run_id
    return [(m.step, m.value) for m in store._client.get_metric_history(run_id, name)]


def commit_made_up(store, plan):
    """Store what is missing of a plan, with a number for each run that only its key decides."""
    for run in plan.runs:
        if run.key not in store.finished():
            number = 50 + int(run.key[:4], 16) / 0xFFFF * 50
            metrics = {"final_loss": 0.5} if run.pretraining else {"test_jaccard": number}
            attempt = store.start(run)
            fill(attempt, metrics=metrics, spec=run.spec.model_dump_json())
            store.commit(run.key, attempt)
