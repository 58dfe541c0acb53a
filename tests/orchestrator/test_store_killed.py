"""The store killed at every change it makes to a file or the database, for real, by leaving.

A process that does what a driver does is ended without any tidying at its n-th change, for each n
until it comes through; then another one goes on. What is stored must be what was never disturbed.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# One process per scenario; it forks, so that MLflow is imported once and not for every kill.
DRIVER = '''
import hashlib, json, os, shutil, sys
from pathlib import Path
import sqlalchemy

import orchestrator.store.tracking.client  # With MLflow: before forking.
from orchestrator.store.home.home import open_home
from orchestrator.plan.plan import load_plan
from orchestrator.verbs.rebuild import rebuild
from orchestrator.store.store import Store
from trainables.history import Point

ROOT = Path(sys.argv[1])
PLAN = load_plan("table2", scale="smoke", methods="hybrid_ft", targets="ph2", seeds="0")
RUN = PLAN.runs[0]
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")
ROWS = [dict(method="m", target="t", dataset="t", metric="jaccard", mean=50.0, std=None, n=1)]


def fill(attempt):
    (attempt.artifacts / "spec.json").write_text(RUN.spec.model_dump_json())
    (attempt.artifacts / "weights.safetensors").write_bytes(b"weights")
    result = {
        "key": RUN.key, "attempt": attempt.number, "metrics": {"final_loss": 0.25},
        "updates": 2, "seconds": 1.5, "environment": {"torch": "2"},
        "history": [["loss", 1, 0.5, 1000], ["loss", 2, 0.25, 2000]],
        "artifacts": {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name in ("spec.json", "weights.safetensors")
            for content in [(attempt.artifacts / name).read_bytes()]
        },
    }
    (attempt.artifacts / "result.json").write_text(json.dumps(result))


def sweep(home):
    with Store.open(home) as store:
        store.begin_sweep(PLAN)
        if RUN.key not in store.finished():
            attempt = store.start(RUN)
            store.log_points(RUN.key, [Point("loss", 1, 0.5, 1000)])
            fill(attempt)
            store.commit(RUN.key, attempt)
        store.write_table(lambda _: None, ROWS, "")
        store.end_sweep(complete=True)


def state(home):
    store = Store.read(home)
    experiment = store._client.get_experiment_by_name("hdsweep").experiment_id
    runs = {}
    for run in store._client.search_runs([experiment]):
        tags = {k: v for k, v in run.data.tags.items() if k not in ("hdsweep.attempt", "mlflow.parentRunId")}
        history = {
            name: sorted((m.step, m.value) for m in store._client.get_metric_history(run.info.run_id, name))
            for name in run.data.metrics
        }
        runs.setdefault(run.info.run_name, []).append([run.info.status, run.data.params, tags, history])
    return {
        "runs": runs,
        "parent_is_there": [store._runs[RUN.key].tags["mlflow.parentRunId"]] == [p.run_id for p in store._parents.values()],
        "artifacts": sorted(p.name for p in store.finished()[RUN.key].artifacts.iterdir()),
        "left": sorted(str(p.relative_to(home.path)) for f in (home.attempts, home.checkpoints) for p in f.iterdir()),
    }


def in_child(work, home, kill_at=None):
    """Run in a process of its own; return its exit code. It dies at its n-th change."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    count = 0

    def change(where):
        nonlocal count
        if str(home.path) in str(where):
            if count == kill_at:
                os._exit(9)
            count += 1

    sys.addaudithook(lambda event, a: change(a[0]) if event in CHANGES else None)
    sqlalchemy.event.listen(
        sqlalchemy.Engine, "commit",
        lambda c: change(c.engine.url.database) if c.engine.url.database.endswith("mlflow.db") else None,
    )
    try:
        work(home)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def report(home, out):
    (ROOT / out).write_text(json.dumps(state(home)))


def recorded(state):
    """Leave out the means of tables that `sweep` did not write: a rebuild derives them."""
    own = {row["method"] for row in ROWS}
    runs = {
        name: found for name, found in state["runs"].items()
        if all(tags.get("hdsweep.kind") != "summary" or tags["hdsweep.method"] in own for _, _, tags, _ in found)
    }
    return {**state, "runs": runs}


def copy_of(template, name):
    folder = ROOT / name
    if template is not None:
        shutil.copytree(template.path, folder)
    return open_home(folder)


def scenario(work, template):
    """Return how many places it was killed at, and where the state differed afterwards."""
    calm = copy_of(template, "calm")
    assert in_child(lambda h: (work(h), sweep(h), report(h, "calm.json")), calm) == 0
    expected = (ROOT / "calm.json").read_text()
    for n in range(1000):
        home = copy_of(template, f"killed-{n}")
        code = in_child(work, home, kill_at=n)
        assert code in (0, 9), (n, code)
        assert in_child(lambda h: (sweep(h), report(h, "after.json")), home) == 0, n
        after = json.loads((ROOT / "after.json").read_text())
        assert recorded(after) == recorded(json.loads(expected)), (n, after, expected)
        # What a rebuild derives beyond what was recorded, the same command again brings.
        again = in_child(lambda h: (work(h), sweep(h), report(h, "after.json")), home)
        after = json.loads((ROOT / "after.json").read_text())
        assert (again, after) == (0, json.loads(expected)), (n, after, expected)
        shutil.rmtree(home.path)
        if code == 0:
            print(json.dumps({"kills": n}))
            return


empty = copy_of(None, "empty")
def make(home):
    with Store.open(home):
        pass
assert in_child(make, empty) == 0
if sys.argv[2] == "sweep":
    scenario(sweep, empty)
else:
    full = copy_of(empty, "full")
    assert in_child(sweep, full) == 0
    def once(home):
        rebuild(home)
    scenario(once, full)
'''


@pytest.fixture
def in_memory():
    """Return a folder in memory where there is one: a kill is no power cut, and disks are slow."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize(("scenario", "least"), [("sweep", 20), ("rebuild", 10)])
def test_killed_at_any_change_the_store_ends_as_if_left_alone(in_memory, scenario, least):
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(in_memory), scenario],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["kills"] >= least


FIRST_OPENING = """
import sys
from pathlib import Path
from orchestrator.store.home.home import open_home
from orchestrator.store.store import Store
home = open_home(Path(sys.argv[1]))
print("opening", flush=True)
with Store.open(home) as store:
    print("open", len(store.finished()), flush=True)
"""


def test_a_driver_killed_while_it_makes_the_database_leaves_a_home_that_opens(tmp_path):
    first = subprocess.Popen(
        [sys.executable, "-c", FIRST_OPENING, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "opening\n"
    while not any(path.stat().st_size for path in tmp_path.glob("mlflow-*.new*")):
        assert first.poll() is None, "the database was made before it could be killed"
    first.kill()
    first.wait()
    first.stdout.close()
    second = subprocess.run(
        [sys.executable, "-c", FIRST_OPENING, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert second.stdout.split() == ["opening", "open", "0"]
    assert not list(tmp_path.glob("mlflow-*.new*"))
