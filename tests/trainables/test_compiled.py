"""`compute.compile`: the same bits in a new process and whatever the cache, bounded work, clear refusals."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch._inductor.runtime import cache_dir_utils

from tests.trainables.interrupted import assert_same, outcome
from trainables.compilers import missing_to_compile
from trainables.config import (
    AdmConfig,
    ComputeConfig,
    DeepLabConfig,
    OptimizerConfig,
    SegFormerConfig,
)
from trainables.data.feeding.order import batch_at, usual_sizes
from trainables.execute import execute
from trainables.networks import build
from trainables.networks.compiled import (
    CannotCompileError,
    CompiledNetwork,
    code_folder,
    use_code_cache,
)
from trainables.networks.training import TrainingNetwork
from trainables.optimization import Descent
from trainables.tune_adapter import RunTrainable

ROOT = Path(__file__).parents[2]
# Every kind of layer, and as few of them as possible: each takes seconds to compile on a CPU.
SMALLEST = AdmConfig(
    channels=32, multipliers=(1,), blocks_per_level=1, attention_rates=(), head_channels=32
)
COMPILED = ComputeConfig(compile=True)
needs_compiler = pytest.mark.skipif(
    missing_to_compile(gpu=False) is not None, reason=str(missing_to_compile(gpu=False))
)

IN_A_PROCESS = """
import json, os, signal, sys
from pathlib import Path
from trainables.config import RunSpec
from trainables.execute import Session
from trainables.loop import Places
spec = RunSpec.model_validate_json(sys.argv[1])
places = {k: Path(v) if isinstance(v, str) and "/" in v else v for k, v in json.loads(sys.argv[2]).items()}
session = Session(spec, Places(**places), checkpoint_seconds=0)
while not session.advance_for(0).done:
    if session.run.update == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
session.finish()
"""


def started(spec, places, cache, kill_at=0):
    """Start a run in a process of its own, with a cache of its own."""
    written = {
        name: v if v is None or isinstance(v, (bool, int)) else str(v)
        for name, v in asdict(places).items()
    }
    env = {
        k: v
        for k, v in os.environ.items()
        if k not in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
    }
    command = [sys.executable, "-c", IN_A_PROCESS, spec.model_dump_json(), json.dumps(written)]
    return subprocess.Popen(
        [*command, str(kill_at)],
        cwd=ROOT,
        env={**env, "HDSWEEP_CACHE": str(cache), "TMPDIR": str(cache.parent)},
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process, code=0):
    _, told = process.communicate(timeout=1200)
    assert process.returncode == code, told[-2000:]


@needs_compiler
@pytest.mark.slow
def test_a_compiled_run_has_the_same_bits_in_a_new_process_whatever_the_cache(
    tiny, tmp_path_factory
):
    training = tiny.training("hybrid").model_copy(
        update={"batch": 10, "updates": 4, "log_every": 1, "ema": True}
    )
    spec, plain = (
        tiny.spec("hybrid", network=SMALLEST, training=training, compute=compute)
        for compute in (COMPILED, ComputeConfig())
    )
    unbroken, broken, other = (
        tiny.places(tmp_path_factory.mktemp(name), "hybrid") for name in ("a", "b", "c")
    )
    cache = tmp_path_factory.mktemp("cache") / "cache"
    # Two at once, each of which finds nothing there and leaves what it compiles.
    both = started(spec, unbroken, cache), started(spec, broken, cache, kill_at=2)
    ended(both[0])
    ended(both[1], -signal.SIGKILL)
    (code,) = (cache / "compiled").iterdir()
    assert code.name == f"torch-{torch.__version__}"
    assert stat.S_IMODE(code.stat().st_mode) == 0o700
    assert list(code.rglob("*.so"))
    # It goes on where no code is found and none can be left.
    closed = tmp_path_factory.mktemp("closed") / "cache"
    closed.write_text("a file where a folder should be")
    ended(started(spec, broken, closed))
    assert json.loads((broken.artifacts / "result.json").read_text())["resumed_at"] == 2
    assert_same(outcome(broken), outcome(unbroken))
    assert not list(closed.parent.glob("hdsweep-compiled-*"))
    assert all("_orig_mod" not in name for name in outcome(unbroken)[0])
    # And what it computes is what an uncompiled one does, but for rounding and where dropout falls.
    expected = execute(plain, other).metrics["final_loss"]
    assert outcome(unbroken)[2]["final_loss"] == pytest.approx(expected, rel=0.1)


FAMILIES = {
    "adm": SMALLEST,
    "deeplab": DeepLabConfig(blocks=(1, 1, 1, 1), base_width=8, expansion=1, backbone="random"),
    "segformer": SegFormerConfig(
        widths=(8, 16, 16, 16), depths=(1, 1, 1, 1), heads=(1, 1, 1, 1), decoder_channels=16,
        backbone="random",
    ),
}  # fmt: skip


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_network_is_one_graph(family, precision):
    network = build(FAMILIES[family], 2).train()
    graphs = []

    def keep(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(network, dynamic=False, fullgraph=True, backend=keep)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        compiled(torch.zeros(2, 3, 32, 32), torch.zeros(2, dtype=torch.long))
    assert len(graphs) == 1


class Scaled(torch.nn.Module):
    """As little of a network as can be compiled."""

    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))

    def forward(self, images, t):
        return images * self.factor + t[:, None, None, None]


@pytest.fixture
def graphs(monkeypatch):
    """Have graphs made and not compiled; return how many images each is made for."""
    made = []

    def keep(graph, inputs):
        made.append(next(len(each) for each in inputs if each.dim() == 4))
        return graph.forward

    compile_ = torch.compile
    monkeypatch.setattr(
        torch,
        "compile",
        lambda network, *, dynamic, **_: compile_(network, dynamic=dynamic, backend=keep),
    )
    return made


def passed(network, images):
    return network(torch.ones(images, 3, 2, 2), torch.zeros(images, dtype=torch.long))


@needs_compiler
def test_only_usual_sizes_are_compiled_for_and_others_are_answered_too(graphs):
    asked = []
    network = CompiledNetwork(Scaled(), COMPILED, lambda: asked.append(1) or {4, 3})
    for images in (4, 1, 3, 2, 4, 5, 3):
        assert torch.equal(passed(network, images), torch.ones(images, 3, 2, 2))
    assert (graphs, asked) == ([4, 3], [1])


@needs_compiler
def test_the_tenth_run_of_a_process_is_compiled_as_the_first_was(graphs):
    for _ in range(10):
        passed(CompiledNetwork(Scaled(), COMPILED, lambda: {4}), 4)
    assert graphs == [4] * 10


@needs_compiler
def test_a_task_that_names_no_sizes_is_stopped_rather_than_computed_in_another_way(graphs):
    network = CompiledNetwork(Scaled(), COMPILED, None)
    for images in range(2, 10):
        passed(network, images)
    with pytest.raises(Exception, match="recompile_limit"):
        passed(network, 10)
    assert len(graphs) == 8


@pytest.mark.parametrize(
    ("images", "batch", "micro_batch", "usual"),
    [
        (20, 12, None, {12, 8}),
        (2594, 64, 16, {16}),  # And a pass of 2 in 163.
        (2594, 64, None, {64}),
        (8, 64, None, {8}),
        (65, 64, None, {65}),  # A single one left joins the others.
        (100, 10, 3, {3, 1}),
    ],
)
def test_usual_sizes_are_those_of_many_passes(images, batch, micro_batch, usual):
    assert usual_sizes(images, batch, micro_batch) == usual


@pytest.mark.parametrize(("batch", "micro_batch"), [(7, None), (8, 3), (40, 16), (64, None)])
def test_sizes_are_counted_as_batches_are_made(batch, micro_batch):
    images = torch.arange(41).numpy()
    passes = []
    for update in range(400):
        _, chosen = batch_at(images, batch=batch, update=update, seed=0)
        passes += map(len, torch.zeros(len(chosen)).split(micro_batch or len(chosen)))
    frequent = {size for size in passes if passes.count(size) >= 0.1 * len(passes)}
    assert usual_sizes(41, batch, micro_batch) == frequent


def without_compilers(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)


def test_a_missing_compiler_is_one_line_before_anything_is_trained(tiny, tmp_path, monkeypatch):
    without_compilers(monkeypatch)
    spec = tiny.spec("hybrid", compute=COMPILED)
    report = RunTrainable(
        config={
            "spec": spec.model_dump(mode="json"),
            "dataset": str(tiny.places(tmp_path, "hybrid").dataset),
            "folder": str(tmp_path),
        }
    ).train()
    told = json.loads(report["failure"])["message"]
    assert told == (
        "CannotCompileError: compute.compile: no compiler on this machine: install a C++ compiler "
        "(`apt install g++`, or name one in CXX); or leave compute.compile=false"
    )


@pytest.mark.parametrize("gpu", [False, True])
def test_what_is_missing_is_named(monkeypatch, tmp_path, gpu):
    without_compilers(monkeypatch)
    assert "install a C" in missing_to_compile(gpu=gpu)
    compiler = tmp_path / "mine"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o700)
    monkeypatch.setenv("CC" if gpu else "CXX", str(compiler))
    assert missing_to_compile(gpu=gpu) is None
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    assert missing_to_compile(gpu=gpu).endswith("install python3-dev")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert ("no Triton" in missing_to_compile(gpu=gpu)) == gpu


def test_graphs_of_a_gpu_are_refused_on_a_cpu(tiny):
    compute = ComputeConfig(compile="reduce-overhead")
    with pytest.raises(
        CannotCompileError, match=r"needs a GPU: on a CPU take compute.compile=true"
    ):
        TrainingNetwork(build(SMALLEST, 2), compute)


@pytest.fixture
def no_code_folder(monkeypatch, tmp_path):
    """Return a cache of this machine, nothing being said of where code goes."""
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HDSWEEP_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("looked", [False, True])
def test_code_goes_to_the_cache_of_the_machine(no_code_folder, looked):
    if looked:  # As libraries do when they are imported.
        cache_dir_utils.cache_dir()
    use_code_cache()
    assert cache_dir_utils.cache_dir() == str(code_folder())
    assert os.environ["TRITON_CACHE_DIR"] == str(code_folder() / "triton")


def test_a_folder_that_the_user_names_is_kept(no_code_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    use_code_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)
    assert not code_folder().exists()


def test_code_is_not_taken_from_where_others_may_put_it(no_code_folder):
    code_folder().mkdir(parents=True)
    code_folder().chmod(0o777)
    use_code_cache()
    other = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert other != code_folder()
    assert stat.S_IMODE(other.stat().st_mode) == 0o700
    shutil.rmtree(other)


def test_gradients_that_stay_where_they_are_add_up_to_the_same():
    results = []
    for own in (False, True):
        torch.manual_seed(0)
        network = torch.nn.Linear(3, 2)
        descent = Descent(network, OptimizerConfig(lr=0.1), own_gradients=own)
        places = []
        for _ in range(3):
            descent.update([network(torch.randn(4, 3)).square().mean() for _ in range(2)])
            places.append(network.weight.grad.data_ptr())
        results.append(network.weight.detach().clone())
        if own:
            assert len(set(places)) == 1
    assert torch.equal(*results)
