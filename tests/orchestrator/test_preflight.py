"""What keeps a node from taking part is said in one line, before a run is started there."""

import shutil
from dataclasses import replace

import pytest

from orchestrator.cluster.compilers import answers, require_compilers, ways_to_compile
from orchestrator.cluster.preflight import FOLDER, Asked, Seen, look, problems_of, versions
from orchestrator.errors import InputError
from orchestrator.process.environment import of_numbers
from trainables.config import ComputeConfig
from trainables.storage import Storage

GOOD = Seen(
    seconds=1000.0,
    versions={"python": "3.11.7", "torch": "2.15.0"},
    trouble="",
    datasets={"ph2-256": "abc"},
    room_bytes=50 * 10**9,
    gpus=8,
)
ASKED = Asked("/home", "token", {"ph2-256": "abc"})


def problems(seen, **changes):
    told = {
        "between": (999.0, 1001.0),
        "ours": GOOD.versions,
        "gpus_offered": 8.0,
        "needed_bytes": 10**9,
        **changes,
    }
    return list(problems_of(ASKED, seen, **told))


def test_a_node_like_the_others_is_fine():
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seconds": 940.0}, "its clock is 59 s behind"),
        ({"seconds": 1100.0}, "its clock is 99 s ahead"),
        ({"gpus": 0}, "it offers 8 GPUs, its driver lists 0"),
        ({"room_bytes": 10**9}, "its disk has 1.0 GB left for copies, 2.1 GB are needed"),
        ({"datasets": {}}, "the dataset ph2-256 is missing there"),
        ({"datasets": {"ph2-256": "abd"}}, "the dataset ph2-256 is another there"),
        (
            {"versions": {**GOOD.versions, "code": "0123456789ab"}},
            "code is 0123456789ab there, none on the driver's machine",
        ),
        (
            {"versions": {"python": "3.11.7", "torch": "2.14.1"}},
            "torch is 2.14.1 there, 2.15.0 on the driver's machine",
        ),
        ({"trouble": "the home `/home` is not shared"}, "the home `/home` is not shared"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_else(changes, said):
    (problem,) = problems(replace(GOOD, **changes))
    assert problem.startswith(said)


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ({}, {"NVIDIA_TF32_OVERRIDE": "1"}, "NVIDIA_TF32_OVERRIDE is set there, which changes"),
        ({}, {"MKL_CBWR": "AVX2"}, "MKL_CBWR is AVX2 there, not set on the driver's machine"),
        ({"MKL_CBWR": "AVX"}, {}, "MKL_CBWR is not set there, AVX on the driver's machine"),
        (
            {},
            {"CUBLAS_WORKSPACE_CONFIG": ":16:8"},
            "CUBLAS_WORKSPACE_CONFIG is :16:8 there, :4096:8 on the driver's machine",
        ),
        ({"MKL_CBWR": "AVX"}, {"MKL_CBWR": "AVX"}, None),
        # What a driver sets itself, and a worker too, whatever a node has not.
        ({"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}, {}, None),
        # What changes no number, and what may be a secret.
        ({}, {"HTTPS_PROXY": "http://a:b@c", "RAY_TMPDIR": "/x", "PATH": "/y"}, None),
    ],
)
def test_a_node_that_would_compute_otherwise_is_refused(ours, theirs, said):
    seen = replace(GOOD, environment=of_numbers(theirs))
    found = problems(seen, environment=of_numbers(ours))
    assert len(found) == (said is not None)
    assert all(each.startswith(said) for each in found)


def test_a_question_that_waited_long_is_no_skewed_clock():
    assert problems(GOOD, between=(900.0, 1100.0)) == []


@pytest.fixture
def home(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HDSWEEP_CACHE", str(tmp_path / "cache"))
    shutil.copytree(tiny.home, tmp_path / "home")
    Storage(str(tmp_path / "home")).write(f"{FOLDER}/token", b"token")
    return tmp_path / "home"


def test_a_machine_answers_what_is_there(home, tiny):
    name = tiny.folder(tiny.source).name
    seen = look(Asked(str(home), "token", {name: tiny.source.fingerprint, "other-16": "x"}))
    assert seen.trouble == ""
    assert seen.datasets == {name: tiny.source.fingerprint}
    assert seen.versions == versions()
    assert seen.room_bytes > 0
    assert len(list((home / FOLDER).iterdir())) == 2  # It wrote, too.


def test_a_folder_of_the_same_name_that_is_another_is_noticed(home, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    assert "is not shared" in look(Asked(str(other), "token", {})).trouble
    Storage(str(other)).write(f"{FOLDER}/token", b"of another driver")
    assert "is not shared" in look(Asked(str(other), "token", {})).trouble
    (other / FOLDER / "token").unlink()
    (other / FOLDER).rmdir()
    (other / FOLDER).write_text("a file where a folder should be")
    assert look(Asked(str(other), "token", {})).trouble


def test_an_object_store_is_shared_by_nature(bucket, home):
    store = Storage(bucket("home"))
    store.write(f"{FOLDER}/token", b"token")
    assert look(Asked(store.place, "token", {})).trouble == ""
    refused = look(Asked(bucket("home").replace("bucket-", "no-bucket-"), "token", {})).trouble
    assert "is not shared" in refused or "cannot be used" in refused


NO_COMPILER = {"true/cpu": "compute.compile: no compiler on this machine"}


@pytest.mark.parametrize(
    ("way", "gpus", "said"),
    [
        ("true/cpu", 0.0, ["compute.compile: no compiler on this machine"]),
        ("true/gpu", 8.0, []),
        ("reduce-overhead/gpu", 8.0, []),
    ],
)
def test_a_node_that_cannot_compile_what_is_to_be_is_told(way, gpus, said):
    assert (
        problems(replace(GOOD, cannot_compile=NO_COMPILER), gpus_offered=gpus, ways=[way]) == said
    )


def test_a_node_without_a_gpu_needs_nothing_for_one():
    seen = replace(GOOD, gpus=0, cannot_compile={"true/gpu": "no Triton"})
    assert problems(seen, gpus_offered=0.0, ways=["true/gpu"]) == []
    assert problems(replace(seen, gpus=8), ways=["true/gpu"]) == ["no Triton"]


def test_only_what_is_trained_is_compiled_for(tiny):
    on = ComputeConfig(compile=True)
    graphs = ComputeConfig(compile="reduce-overhead")
    specs = [tiny.spec("ledm", compute=graphs), tiny.spec("hybrid", compute=on)]
    assert ways_to_compile(specs) == {"true"}
    assert ways_to_compile([tiny.spec("hybrid")]) == frozenset()
    with pytest.raises(InputError, match="needs a GPU"):
        require_compilers([tiny.spec("hybrid", compute=graphs)], gpu=False)


def test_a_machine_without_a_compiler_answers_so(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CXX", raising=False)
    assert "install a C++ compiler" in answers()["true/cpu"]
