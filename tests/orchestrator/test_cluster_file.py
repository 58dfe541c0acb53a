"""Cluster files: ours pass, and each mistake that Ray's schema lets through is named."""

import json
from pathlib import Path

import pytest
import yaml

from orchestrator.cluster.launch.cluster_file import problems, read_cluster_file
from orchestrator.errors import InputError
from tests.command_line import hdsweep

FOLDER = Path(__file__).parents[2] / "cluster"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.fixture(autouse=True)
def token(tmp_path, monkeypatch):
    """A home folder that has the token which our files carry to the machines."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").touch()


def changed(tmp_path, name, change):
    """Write one of our files with a change made to its content."""
    content = yaml.safe_load((FOLDER / name).read_text())
    change(content)
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_there_is_a_file_for_ones_own_machines_and_two_clouds():
    assert [path.stem for path in FILES] == ["aws", "gcp", "on_prem"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_our_files_have_nothing_to_mend(path):
    assert problems(path) == []


@pytest.mark.parametrize(
    ("name", "home", "install"),
    [
        ("on_prem", "/shared/", "make install"),
        ("aws", "s3://", "make install EXTRAS=aws"),
        ("gcp", "gs://", "make install EXTRAS=gcp"),
    ],
)
def test_our_files_share_a_home_install_and_carry_the_token(name, home, install):
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    setup = content["setup_commands"]
    assert setup[-1].endswith(install)
    assert f"HDSWEEP_HOME={home}" in "\n".join(setup)
    (start,) = (c for c in content["worker_start_ray_commands"] if "ray start" in c)
    cloud = content["provider"]["type"]
    assert (f"export HDSWEEP_SPOT={cloud} " in start) == (cloud != "local")
    assert content["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


def test_clouds_have_an_idle_head_and_capped_groups_of_spot_and_on_demand_machines():
    for path in FILES:
        types = yaml.safe_load(path.read_text()).get("available_node_types")
        if types is None:
            continue
        assert types["head"]["resources"]["CPU"] == 0
        assert types["head"]["max_workers"] == 0
        assert {"gpu_spot", "gpu_on_demand"} < set(types)
        spot = json.dumps(types["gpu_spot"]["node_config"])
        assert '"spot"' in spot or '"SPOT"' in spot
        assert all(each["max_workers"] < 20 for each in types.values())


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "aws",
            lambda c: c["provider"].update(regoin="x"),
            "unknown setting `regoin`, did you mean `region`?",
        ),
        (
            "aws",
            lambda c: c["available_node_types"]["gpu_spot"]["node_config"].update(InstanceTyp="x"),
            "available_node_types.gpu_spot.node_config: unknown setting `InstanceTyp`, did you mean",
        ),
        (
            "gcp",
            lambda c: c["available_node_types"]["head"]["node_config"].update(machinetype="x"),
            "unknown setting `machinetype`, did you mean `machineType`?",
        ),
        (
            "on_prem",
            lambda c: c["provider"]["worker_ips"].append("192.0.2.11"),
            "192.0.2.11 is there 2 times",
        ),
        (
            "on_prem",
            lambda c: c["provider"]["worker_ips"].append("192.0.2.10"),
            "192.0.2.10 is the head",
        ),
        (
            "on_prem",
            lambda c: c["file_mounts"].update({"~/x": "/nowhere/x"}),
            "/nowhere/x, for ~/x, is not there",
        ),
        ("on_prem", lambda c: c["file_mounts"].clear(), "no ~/.ray/auth_token"),
        (
            "on_prem",
            lambda c: c.update(setup_commands="make"),
            "setup_commands must be a list of commands",
        ),
        (
            "aws",
            lambda c: c["setup_commands"].append("export AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE"),
            "setup_commands: holds an AWS access key",
        ),
        (
            "aws",
            lambda c: c["setup_commands"].append("mlflow --password=hunter22"),
            "setup_commands: holds a password or token",
        ),
        (
            "on_prem",
            lambda c: c.update(
                worker_start_ray_commands=["ray start --address=$RAY_HEAD_IP:6379"]
            ),
            "worker_start_ray_commands: `ray start` without RAY_AUTH_MODE=token",
        ),
        (
            "on_prem",
            lambda c: c.update(
                head_start_ray_commands=[
                    "RAY_AUTH_MODE=token ray start --head --dashboard-host=0.0.0.0"
                ]
            ),
            "the dashboard is open to 0.0.0.0",
        ),
        (
            "on_prem",
            lambda c: c.update(head_start_ray_commands=["true"]),
            "head_start_ray_commands: none starts Ray",
        ),
        ("aws", lambda c: c.update(cluster_nam="x"), "cluster_nam"),
        ("aws", lambda c: c.update(head_node_type="haed"), "`head_node_type` must be one of"),
        (
            "aws",
            lambda c: c["available_node_types"]["gpu_spot"].update(min_workers=-1),
            "min_workers",
        ),
        ("aws", lambda c: c["provider"].pop("type"), "provider.type is missing"),
    ],
)
def test_a_mistake_is_named(tmp_path, name, change, said):
    path = changed(tmp_path, f"{name}.yaml", change)
    assert any(said in problem for problem in problems(path)), problems(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("a: 1\na: 2\n", "the key `a` is there twice"),
        ("- a\n", "not a mapping of settings"),
        ("a: &a [1]\nb: [" + "*a," * 60 + "]\n", "60 aliases"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("x" * (2**20 + 1), "larger than any cluster file"),
    ],
)
def test_what_is_no_cluster_file_is_refused(tmp_path, text, message):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_cluster_file(path)


def test_the_command_exits_with_1_and_names_file_and_place(tmp_path):
    path = changed(tmp_path, "aws.yaml", lambda c: c["provider"].update(regoin="x"))
    out, _ = hdsweep("cluster", "validate", path, exit_code=1)
    assert out.startswith(f"{path}: provider: unknown setting `regoin`")
