"""Checking a Ray cluster YAML before machines are started: Ray's own schema, and what that lets through.

What `ray up` finds out itself, it finds out after machines have been paid for, or not at all: a worker
that cannot join says so only in a log on the head. Source of the list: what the schema of Ray 2.60 was seen
to accept.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from orchestrator.cluster.session.private import PREPARE_CONFIG, VALIDATE_CONFIG
from orchestrator.cluster.session.token import TOKEN
from orchestrator.errors import InputError
from trainables.user_text import UserTextError, read_user_text

LARGEST = 2**20  # Bytes; a cluster file has a few thousand.
MOST_ALIASES = 50

PROVIDER_KEYS = {
    "local": {"type", "head_ip", "worker_ips", "coordinator_address", "external_head_ip"},
    "aws": {
        "type",
        "region",
        "availability_zone",
        "cache_stopped_nodes",
        "security_group",
        "use_internal_ips",
        "cloudwatch",
    },
    "gcp": {
        "type",
        "region",
        "availability_zone",
        "project_id",
        "gcp_credentials",
        "use_internal_ips",
    },
}
NODE_KEYS = {
    "aws": {
        "BlockDeviceMappings",
        "CapacityReservationSpecification",
        "CpuOptions",
        "EbsOptimized",
        "IamInstanceProfile",
        "ImageId",
        "InstanceMarketOptions",
        "InstanceType",
        "KeyName",
        "LaunchTemplate",
        "MetadataOptions",
        "NetworkInterfaces",
        "Placement",
        "SecurityGroupIds",
        "SubnetId",
        "SubnetIds",
        "TagSpecifications",
        "UserData",
    },
    "gcp": {
        "canIpForward",
        "disks",
        "guestAccelerators",
        "labels",
        "machineType",
        "metadata",
        "minCpuPlatform",
        "networkInterfaces",
        "reservationAffinity",
        "scheduling",
        "serviceAccounts",
        "shieldedInstanceConfig",
        "sourceMachineImage",
        "tags",
    },
}
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
SECRETS = (
    ("an AWS access key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("a Hugging Face token", r"\bhf_[A-Za-z0-9]{20,}\b"),
    ("a secret key", r"\bsk-[A-Za-z0-9_-]{20,}\b"),
    (
        "a password or token",
        r"(?i)\b\w*(?:password|passwd|secret|api_?key|token)\w*=(?!token\b)['\"]?[^\s'\"$~/][^\s'\"]{5,}",
    ),
)


class _Strict(yaml.SafeLoader):  # type: ignore[misc]
    """Refuses a key that is there twice, of which YAML would keep the last."""


def _mapping(loader: _Strict, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    pairs = [(loader.construct_object(k, deep=True), v) for k, v in node.value]
    keys = [key for key, _ in pairs]
    doubled = next((key for key in keys if keys.count(key) > 1), None)
    if doubled is not None:
        raise yaml.YAMLError(
            f"line {node.start_mark.line + 1}: the key `{doubled}` is there twice"
        )
    return {key: loader.construct_object(value, deep=True) for key, value in pairs}


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_cluster_file(path: Path) -> dict[str, Any]:
    """Return the content of a cluster YAML.

    Raises:
        InputError: if it cannot be read, is too large, or is not a YAML mapping.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path}: larger than any cluster file ({LARGEST // 1024} KiB)")
        text = read_user_text(path)
    except UserTextError as error:
        raise InputError(f"{path} is {error}") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    try:
        aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text))
        if aliases > MOST_ALIASES:
            raise InputError(f"{path}: {aliases} aliases, more than any cluster file needs")
        content = yaml.load(text, Loader=_Strict)  # A SafeLoader.
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a mapping of settings")
    return content


def problems(path: Path) -> list[str]:
    """Return what is wrong with a cluster file, a line each; none if nothing is.

    Raises:
        InputError: if it cannot be read at all.
    """
    config = read_cluster_file(path)
    provider = config.get("provider")
    if not isinstance(provider, dict) or "type" not in provider:
        return ["provider.type is missing: local, aws or gcp"]
    found = [*_commands(config), *_provider(provider), *_nodes(config, str(provider["type"]))]
    found += [*_workers(provider), *_mounts(config), *_ray(config)]
    # Ray's own check comes last: it trips over what is not even a list.
    if not any("must be a list" in each for each in found):
        found += _schema(config)
    return found


def _schema(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the schema of the installed Ray finds."""
    from copy import deepcopy

    prepare_config, validate_config = PREPARE_CONFIG.get(), VALIDATE_CONFIG.get()
    try:
        validate_config(prepare_config(deepcopy(dict(config))))
    except Exception as error:  # noqa: BLE001 - it raises what it stumbles over
        reason = getattr(error, "message", "") or str(error) or type(error).__name__
        where = ".".join(map(str, getattr(error, "absolute_path", ()))) or "the file"
        yield f"{where}: {' '.join(reason.split())[:300]}"


def _commands(config: Mapping[str, Any]) -> Iterator[str]:
    for key in COMMANDS:
        commands = config.get(key, [])
        if not isinstance(commands, list) or not all(isinstance(c, str) for c in commands):
            yield f"{key} must be a list of commands"
            continue
        for command in commands:
            for what, pattern in SECRETS:
                if re.search(pattern, command):
                    yield f"{key}: holds {what}, which every machine would store: use file_mounts"
                    break


def _provider(provider: Mapping[str, Any]) -> Iterator[str]:
    kind = str(provider["type"])
    if kind in PROVIDER_KEYS:
        yield from _unknown("provider", provider, PROVIDER_KEYS[kind])


def _nodes(config: Mapping[str, Any], kind: str) -> Iterator[str]:
    types = config.get("available_node_types") or {}
    for name, node in types.items() if isinstance(types, dict) else ():
        if not isinstance(node, dict):
            continue
        least, most = node.get("min_workers", 0), node.get("max_workers")
        if isinstance(least, int) and not 0 <= least <= (least if most is None else most):
            yield f"available_node_types.{name}: min_workers {least} is not in 0 to max_workers"
        settings = node.get("node_config")
        if kind in NODE_KEYS and isinstance(settings, dict):
            yield from _unknown(
                f"available_node_types.{name}.node_config", settings, NODE_KEYS[kind]
            )


def _unknown(where: str, settings: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    for key in settings:
        if key not in known:
            near = get_close_matches(str(key), sorted(known), n=1)
            hint = f", did you mean `{near[0]}`?" if near else ""
            yield f"{where}: unknown setting `{key}`{hint}"


def _workers(provider: Mapping[str, Any]) -> Iterator[str]:
    workers = provider.get("worker_ips") or []
    for address in dict.fromkeys(workers):
        if workers.count(address) > 1:
            yield f"provider.worker_ips: {address} is there {workers.count(address)} times"
    if provider.get("head_ip") in workers:
        yield f"provider.worker_ips: {provider['head_ip']} is the head"


def _mounts(config: Mapping[str, Any]) -> Iterator[str]:
    mounts = config.get("file_mounts") or {}
    for target, source in mounts.items() if isinstance(mounts, dict) else ():
        path = Path(str(source)).expanduser()
        # `hdsweep cluster up` makes the token where there is none.
        if not path.exists() and path != Path.home() / TOKEN:
            yield f"file_mounts: {source}, for {target}, is not there"


def _ray(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what would leave Ray open, or its workers outside."""
    mounts = config.get("file_mounts")
    if not isinstance(mounts, dict) or not any(str(t).endswith("auth_token") for t in mounts):
        yield "file_mounts: no ~/.ray/auth_token: machines without the token cannot join"
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        commands = [c for c in config.get(key) or [] if isinstance(c, str) and "ray start" in c]
        if not commands:
            yield f"{key}: none starts Ray"
        for command in commands:
            if "RAY_AUTH_MODE=token" not in command:
                yield f"{key}: `ray start` without RAY_AUTH_MODE=token"
            host = re.search(r"--dashboard-host[= ](\S+)", command)
            if host and host[1] not in ("127.0.0.1", "localhost"):
                yield f"{key}: the dashboard is open to {host[1]}, not to 127.0.0.1 only"
