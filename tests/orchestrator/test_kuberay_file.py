"""Files for KubeRay: ours pass its own definitions, and whatever is misspelt in them is named."""

import copy
import re
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from orchestrator.cluster.launch.kuberay_file import ClusterSpec, JobSpec, _Part, problems
from tests.command_line import hdsweep
from tests.documents import document

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster" / "kuberay"
FILES = (FOLDER / "raycluster.yaml", FOLDER / "rayjob.yaml")
DEFINITIONS = yaml.safe_load((Path(__file__).parent / "kuberay/definitions.yaml").read_text())
# Whose keys are names of the user's own, not settings.
FREE = {"labels", "limits", "nodeSelector", "rayStartParams", "requests"}


def read(name):
    return yaml.safe_load((FOLDER / name).read_text())


def written(tmp_path, content):
    path = tmp_path / "file.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def refused_by_kuberay(content):
    """Return whether KubeRay's own definitions refuse a resource."""
    kind, spec = content["kind"], content["spec"]
    found = [*jsonschema.Draft7Validator(DEFINITIONS[kind]).iter_errors(spec)]
    if not found and kind == "RayJob":
        inner = jsonschema.Draft7Validator(DEFINITIONS["RayCluster"])
        found = [*inner.iter_errors(spec["rayClusterSpec"])]
    return bool(found)


def keys_in(tree, path=()):
    """Yield the path of every setting of a tree."""
    pairs = enumerate(tree) if isinstance(tree, list) else tree.items()
    for key, value in pairs:
        if isinstance(key, str):
            yield (*path, key)
        if isinstance(value, dict | list) and key not in FREE:
            yield from keys_in(value, (*path, key))


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def dotted(path):
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).removeprefix(".")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_our_files_pass_here_and_by_the_definitions_of_kuberay(path):
    assert problems(path) == []
    assert not refused_by_kuberay(yaml.safe_load(path.read_text()))


def fields(model):
    return {field.alias: field.annotation for field in model.model_fields.values()}


def parts_of(annotation):
    """Yield the models that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, _Part):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from parts_of(inner)


def compare(model, definition, path):
    assert set(fields(model)) == set(definition["properties"]), path
    for name, annotation in fields(model).items():
        inner = definition["properties"][name]
        if name == "rayClusterSpec":
            continue  # Compared by itself.
        for part in parts_of(annotation):
            compare(part, inner.get("items", inner), (*path, name))


@pytest.mark.parametrize(("model", "kind"), [(ClusterSpec, "RayCluster"), (JobSpec, "RayJob")])
def test_the_settings_known_here_are_those_that_kuberay_defines(model, kind):
    compare(model, DEFINITIONS[kind], (kind,))


def test_every_setting_is_named_when_it_is_misspelt(tmp_path):
    content = read("rayjob.yaml")
    # The two groups of workers are alike.
    del content["spec"]["rayClusterSpec"]["workerGroupSpecs"][1]
    tried = 0
    for *above, key in keys_in(content["spec"], ("spec",)):
        changed = copy.deepcopy(content)
        part = at(changed, above)
        part[f"{key}x"] = part.pop(key)
        found = " | ".join(problems(written(tmp_path, changed)))
        assert dotted(above) in found, (above, key, found)
        assert f"unknown setting `{key}x`" in found or "required" in found, (key, found)
        if "template" not in above and "resources" not in above:
            assert refused_by_kuberay(changed), (above, key)
        tried += 1
    assert tried > 60


def group(content, number=0):
    return content["spec"]["workerGroupSpecs"][number]


def container(content):
    return group(content)["template"]["spec"]["containers"][0]


CLUSTER_MISTAKES = {
    "spec.workerGroupSpecs[0]: minReplicas 13 is above maxReplicas 12": lambda c: group(c).update(
        minReplicas=13
    ),
    "spec.workerGroupSpecs[0]: replicas 20 is not in 0 to 12": lambda c: group(c).update(
        replicas=20
    ),
    "spec.workerGroupSpecs[0].maxReplicas: Field required": lambda c: group(c).pop("maxReplicas"),
    "spec.workerGroupSpecs[1].maxReplicas: Input should be a valid integer": lambda c: group(
        c, 1
    ).update(maxReplicas="4"),
    "spec.workerGroupSpecs: 2 groups are called `gpu-spot`": lambda c: group(c, 1).update(
        groupName="gpu-spot"
    ),
    "spec.workerGroupSpecs[1]: no pod ever": lambda c: c["spec"].pop("enableInTreeAutoscaling"),
    "spec.authOptions: Ray without token authentication": lambda c: c["spec"].pop("authOptions"),
    "spec.authOptions.mode: Input should be 'token' or 'disabled'": lambda c: c["spec"][
        "authOptions"
    ].update(mode="tokens"),
    "spec.rayVersion: `None`, tokens need 2.52": lambda c: c["spec"].pop("rayVersion"),
    "spec.rayVersion: `2.9.0`, tokens need 2.52": lambda c: c["spec"].update(rayVersion="2.9.0"),
    "the value of WANDB_API_KEY belongs into a Secret": lambda c: container(c)["env"].append(
        {"name": "WANDB_API_KEY", "value": "0123456789"}
    ),
    "containers[0].volumeMounts: no volume is called `hoem`": lambda c: container(c)[
        "volumeMounts"
    ].append({"name": "hoem", "mountPath": "/x"}),
    "containers[0].resources.limits.memory: `96GB` is no quantity": lambda c: container(c)[
        "resources"
    ]["limits"].update(memory="96GB"),
    "template.spec.containers[0].env[0].value: 3 is not of type": lambda c: container(c)["env"][
        0
    ].update(value=3),
    "template.spec: 'containers' is a required property": lambda c: group(c)["template"][
        "spec"
    ].pop("containers"),
    "apiVersion: Input should be 'ray.io/v1'": lambda c: c.update(apiVersion="ray.io/v1alpha1"),
    "kind: `RayClutser`, did you mean `RayCluster`?": lambda c: c.update(kind="RayClutser"),
}
JOB_MISTAKES = {
    "spec: no cluster": lambda c: c["spec"].pop("rayClusterSpec"),
    "spec: no entrypoint": lambda c: c["spec"].pop("entrypoint"),
    "spec: ttlSecondsAfterFinished needs": lambda c: c["spec"].update(
        ttlSecondsAfterFinished=60, shutdownAfterJobFinishes=False
    ),
    "spec.rayClusterSpec.authOptions: Ray without": lambda c: c["spec"]["rayClusterSpec"].pop(
        "authOptions"
    ),
    "spec.submitterPodTemplate.spec.containers: missing": lambda c: c["spec"].update(
        submitterPodTemplate={}
    ),
}


@pytest.mark.parametrize(
    ("name", "said", "change"),
    [
        *(("raycluster.yaml", said, change) for said, change in CLUSTER_MISTAKES.items()),
        *(("rayjob.yaml", said, change) for said, change in JOB_MISTAKES.items()),
    ],
    ids=[*CLUSTER_MISTAKES, *JOB_MISTAKES],
)
def test_a_mistake_is_named(tmp_path, name, said, change):
    content = copy.deepcopy(read(name))
    change(content)
    found = problems(written(tmp_path, content))
    assert any(said in each for each in found), found


def test_a_variable_that_only_speaks_of_a_token_is_no_secret(tmp_path):
    content = read("raycluster.yaml")
    for value in ("true", "/var/run/token"):
        container(content)["env"].append({"name": "TOKEN_FILE", "value": value})
    assert problems(written(tmp_path, content)) == []


def test_the_job_brings_the_same_cluster():
    assert read("rayjob.yaml")["spec"]["rayClusterSpec"] == read("raycluster.yaml")["spec"]


def test_a_small_head_and_capped_groups_of_spot_and_on_demand_machines():
    spec = read("raycluster.yaml")["spec"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    spot, on_demand = spec["workerGroupSpecs"]
    assert spot["priority"] > on_demand["priority"]
    for each in (spot, on_demand):
        assert each["minReplicas"] == 0
        assert each["maxReplicas"] < 20
        limits = each["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert limits["nvidia.com/gpu"] == "1"


def test_the_other_objects_are_kubernetes_own_and_all_fit_together():
    policy, claim = read("network-policy.yaml"), read("storage.yaml")
    for content in (policy, claim):
        newest = kubernetes_validate.latest_version()
        kubernetes_validate.validate(content, newest, strict=True)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    spec = read("raycluster.yaml")["spec"]
    chosen = policy["spec"]["podSelector"]["matchLabels"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for template in (each["template"] for each in groups):
        assert chosen.items() <= template["metadata"]["labels"].items()
        volumes = {each["name"]: each for each in template["spec"]["volumes"]}
        claimed = volumes["home"]["persistentVolumeClaim"]["claimName"]
        assert claimed == claim["metadata"]["name"]
    # All ports among the pods themselves; for all others the one of jobs.
    ours, others = policy["spec"]["ingress"]
    assert ours == {"from": [{"podSelector": {"matchLabels": chosen}}]}
    assert others["ports"] == [{"protocol": "TCP", "port": 8265}]
    job = read("rayjob.yaml")["metadata"]["name"]
    submitter = {"ray.io/originated-from-cr-name": job}
    assert {"podSelector": {"matchLabels": submitter}} in others["from"]


def test_ray_is_the_pinned_one_and_the_token_is_in_no_file():
    (pinned,) = re.findall(r"^ray==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    spec = read("raycluster.yaml")["spec"]
    assert spec["rayVersion"] == pinned
    assert spec["authOptions"] == {"mode": "token", "secretName": "hdsweep-ray-token"}
    for path in FOLDER.iterdir():
        assert not re.search(r"\b[0-9a-f]{32,}\b|kind: Secret", path.read_text()), path


def test_the_command_names_file_and_key(tmp_path):
    content = read("raycluster.yaml")
    group(content)["maxReplica"] = group(content).pop("maxReplicas")
    path = written(tmp_path, content)
    said = "spec.workerGroupSpecs[0]: unknown setting `maxReplica`, did you mean `maxReplicas`?"
    out, _ = hdsweep("cluster", "validate", path, exit_code=1)
    assert f"{path}: {said}" in out
    out, _ = hdsweep("cluster", "validate", path, "--json", exit_code=1)
    assert said in document(out)["problems"]
