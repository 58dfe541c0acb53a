"""The files for AWS and Google Cloud: Ray starts and ends their machines against an imitation of the API of
the one, and asks nothing of the other that its own description does not have."""

import copy
import json
import re
from pathlib import Path
from uuid import uuid4

import boto3
import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "cluster"
REGION = "us-west-2"
GROUPS = ("gpu_spot", "gpu_on_demand")


def policies():
    """Return the policies of the comments of aws.yaml, by the names of their roles."""
    head, _, _ = (FOLDER / "aws.yaml").read_text().partition("cluster_name:")
    text = "\n".join(line.removeprefix("#") for line in head.splitlines())
    found = re.finditer(r"^ (hdsweep-\w+) = (\{.*?\]\})$", text, re.MULTILINE | re.DOTALL)
    return {match[1]: json.loads(match[2]) for match in found}


def allowed(name):
    """Return the calls that a policy allows, such as `ec2:RunInstances`."""
    actions = [each["Action"] for each in policies()[name]["Statement"]]
    return {a for each in actions for a in ([each] if isinstance(each, str) else each)}


@pytest.fixture
def aws(s3_server, tmp_path, monkeypatch):
    """An account as the comments of aws.yaml have it; yields its names and who is who in it."""
    from ray.autoscaler._private.aws import utils

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3_server}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    # It keeps clients, with the address that they were made for.
    utils.resource_cache.cache_clear()
    utils.client_cache.cache_clear()
    ec2, iam = boto3.client("ec2"), boto3.client("iam")
    name = f"hdsweep-{uuid4().hex}"
    group = ec2.create_security_group(GroupName=name, Description="hdsweep")["GroupId"]
    inside = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
    ssh["IpRanges"] = [{"CidrIp": "198.51.100.0/24"}]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[inside, ssh])
    for name in ("hdsweep-head", "hdsweep-worker"):
        trust = {"Version": "2012-10-17", "Statement": []}
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    yield {"group": group, "image": ec2.describe_images()["Images"][0]["ImageId"]}
    for name in ("hdsweep-head", "hdsweep-worker"):
        iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name)
        iam.delete_instance_profile(InstanceProfileName=name)
        iam.delete_role(RoleName=name)
    utils.resource_cache.cache_clear()
    utils.client_cache.cache_clear()


@pytest.fixture
def calls(aws):
    """The calls that are made from here on, such as `ec2:RunInstances`."""
    made = set()

    def note(model, **_):
        made.add(f"{model.service_model.endpoint_prefix}:{model.name}")

    session = boto3.session.Session()
    session.events.register("before-call", note)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boto3, "DEFAULT_SESSION", session)
        yield made


def bootstrapped(aws):
    """Return the content of aws.yaml, its names those of an account, as `ray up` completes it."""
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.util import prepare_config, validate_config

    text = (FOLDER / "aws.yaml").read_text()
    text = text.replace("ami-00000000000000000", aws["image"])
    config = yaml.safe_load(text.replace("sg-00000000000000000", aws["group"]))
    config = prepare_config(copy.deepcopy(config))
    validate_config(config)
    return bootstrap_aws(config)


def test_ray_makes_no_group_of_its_own_which_would_open_ssh_to_the_world(aws):
    groups = {
        g["GroupId"] for g in boto3.client("ec2").describe_security_groups()["SecurityGroups"]
    }
    config = bootstrapped(aws)
    after = boto3.client("ec2").describe_security_groups()["SecurityGroups"]
    assert {g["GroupId"] for g in after} == groups
    for node in config["available_node_types"].values():
        assert node["node_config"]["SecurityGroupIds"] == [aws["group"]]


def workers_of(config):
    """Yield how Ray asks for a machine of each group: its settings and its names."""
    for name in GROUPS:
        tags = {"ray-node-type": "worker", "ray-user-node-type": name}
        yield name, config["available_node_types"][name]["node_config"], tags


def test_ray_starts_and_ends_workers_by_calls_that_the_policy_of_the_head_allows(aws, calls):
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    config = bootstrapped(aws)
    calls.clear()  # Those of `ray up`.
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    made = {
        name: [*provider.create_node(node_config, tags, 2)]
        for name, node_config, tags in workers_of(config)
    }
    everyone = sorted(made["gpu_spot"] + made["gpu_on_demand"])
    assert sorted(provider.non_terminated_nodes({})) == everyone
    for each in everyone:
        provider.set_node_tags(each, {"ray-node-status": "up-to-date"})
        assert provider.internal_ip(each)
    seen = set(calls)
    for name, ids in made.items():
        for machine in machines(ids):
            assert machine.get("InstanceLifecycle") == ("spot" if name == "gpu_spot" else None)
            assert machine["MetadataOptions"]["HttpTokens"] == "required"
            assert [each["GroupId"] for each in machine["SecurityGroups"]] == [aws["group"]]
            assert machine["IamInstanceProfile"]["Arn"].endswith("/hdsweep-worker")
    calls.clear()
    provider.terminate_nodes(everyone)
    assert provider.non_terminated_nodes({}) == []
    seen |= calls
    ended = {machine["State"]["Name"] for machine in machines(everyone)}
    assert ended <= {"shutting-down", "terminated"}
    assert "ec2:RunInstances" in seen
    # Names and the role are given with the call that starts a machine.
    assert seen | {"ec2:CreateTags", "iam:PassRole"} == allowed("hdsweep-head")


def machines(ids):
    reservations = boto3.client("ec2").describe_instances(InstanceIds=ids)["Reservations"]
    return [machine for each in reservations for machine in each["Instances"]]


def test_the_policy_of_workers_is_for_the_home_alone():
    for statement in policies()["hdsweep-worker"]["Statement"]:
        bucket, _, below = statement["Resource"].removeprefix("arn:aws:s3:::").partition("/")
        assert (bucket, below) in {("your-bucket", ""), ("your-bucket", "hdsweep/*")}
    setup = "\n".join(yaml.safe_load((FOLDER / "aws.yaml").read_text())["setup_commands"])
    assert "HDSWEEP_HOME=s3://your-bucket/hdsweep'" in setup


def google():
    """Return Google's description of its Compute API, which its client brings along."""
    import googleapiclient

    documents = Path(googleapiclient.__file__).parent / "discovery_cache/documents"
    return json.loads((documents / "compute.v1.json").read_text())["schemas"]


def misfits(value, schema, schemas, where):
    """Yield where a value is not what a schema of Google's description says."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"]]
    kind = schema["type"]
    if kind == "object" and isinstance(value, dict):
        for key, inner in value.items():
            known = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            if known is None:
                yield f"{where}.{key} is unknown"
            else:
                yield from misfits(inner, known, schemas, f"{where}.{key}")
    elif kind == "array" and isinstance(value, list):
        for i, inner in enumerate(value):
            yield from misfits(inner, schema["items"], schemas, f"{where}[{i}]")
    elif value not in schema.get("enum", [value]):
        yield f"{where} is {value}"
    # Numbers of 64 bits are text in its JSON; its service takes numbers, too.
    elif kind == "string" and not isinstance(
        value, int if schema.get("format") == "int64" else str
    ):
        yield f"{where} is no text"
    elif kind in ("object", "array") or (kind == "boolean" and not isinstance(value, bool)):
        yield f"{where} is no {kind}"


def google_machines():
    types = yaml.safe_load((FOLDER / "gcp.yaml").read_text())["available_node_types"]
    return {name: node["node_config"] for name, node in types.items()}


def test_what_is_asked_of_google_is_in_its_own_description():
    schemas = google()
    for name, settings in google_machines().items():
        assert [*misfits(settings, schemas["Instance"], schemas, name)] == []


def test_what_is_not_in_the_description_of_google_would_be_seen():
    schemas, settings = google(), google_machines()["gpu_spot"]
    for change, said in (
        ({"scheduling": [{"preemptible": True}]}, "x.scheduling is no object"),
        ({"scheduling": {"provisioningModel": "spot"}}, "x.scheduling.provisioningModel is spot"),
        ({"machinetype": "a"}, "x.machinetype is unknown"),
        ({"machineType": 1}, "x.machineType is no text"),
        ({"canIpForward": "no"}, "x.canIpForward is no boolean"),
    ):
        assert [*misfits(settings | change, schemas["Instance"], schemas, "x")] == [said]


def test_at_google_workers_may_use_the_home_and_the_head_more():
    accounts = {n: m["serviceAccounts"][0]["email"] for n, m in google_machines().items()}
    assert accounts["head"].startswith("hdsweep-head@")
    assert {accounts[name] for name in GROUPS} == {accounts["gpu_spot"]}
    assert accounts["gpu_spot"].startswith("hdsweep-worker@")
