"""Checking a RayCluster or RayJob of KubeRay before it is given to Kubernetes.

The API server drops settings that it does not know unless it is asked not to, and a pod that cannot start
says so only in its events. Source: the API of KubeRay 1.7, `ray.io/v1`,
https://ray-project.github.io/kuberay/reference/api/. Pod templates are Kubernetes' own and are left to
`kubernetes-validate`, where it is installed.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from orchestrator.cluster.launch.cluster_file import read_cluster_file
from orchestrator.errors import nearest
from trainables.bounds import INT32_MAX, INT64_MAX, MOST_CPUS

KINDS = ("RayCluster", "RayJob")
TOKEN_SINCE = Version("2.52")  # Of Ray; KubeRay refuses `authOptions` for older ones.
SECRET_NAME = re.compile(r"(?i)password|passwd|secret|api_?key|access_?key|token")
LONGEST_FLAG = len("false")  # Of a variable that only says whether there is a token.
QUANTITY = re.compile(r"\+?(\d+\.?\d*|\.\d+)(m|k|M|G|T|P|E|[KMGTPE]i|[eE][+-]?\d+)?")

Object = dict[str, Any]
"""A part that Kubernetes defines."""
Text = dict[str, str]
Quantity = (
    str
    | Annotated[int, Field(ge=0, le=INT64_MAX)]
    | Annotated[float, Field(ge=0, le=float(INT64_MAX))]
)
Deletion = Literal["DeleteCluster", "DeleteWorkers", "DeleteSelf", "DeleteNone"]


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, alias_generator=to_camel, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _known(cls, content: Any) -> Any:
        """Name a misspelt key with its neighbour, where pydantic would only call it extra."""
        if isinstance(content, dict):
            known = {field.alias or name for name, field in cls.model_fields.items()}
            wrong = [str(key) for key in content if key not in known]
            if wrong:
                said = (f"unknown setting `{key}`, {_near(key, known)}" for key in wrong)
                raise ValueError("; ".join(said))
        return content


def _near(key: str, known: Iterable[str]) -> str:
    return nearest("setting", key, known)


class AuthOptions(_Part):
    mode: Literal["token", "disabled"] = "token"
    secret_name: str | None = None
    enable_k8s_token_auth: bool = Field(False, alias="enableK8sTokenAuth")


class Resources(_Part):
    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}
    claims: list[Object] = []


class AutoscalerOptions(_Part):
    version: Literal["v1", "v2"] | None = None
    upscaling_mode: Literal["Default", "Aggressive", "Conservative"] | None = None
    idle_timeout_seconds: int | None = Field(None, ge=0, le=INT32_MAX)
    image: str | None = None
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    command: list[str] = []
    args: list[str] = []
    env: list[Object] = []
    env_from: list[Object] = []
    resources: Resources | None = None
    security_context: Object = {}
    volume_mounts: list[Object] = []


class _Group(_Part):
    ray_start_params: Text = {}
    labels: Text = {}
    resources: Text = {}
    template: Object


class HeadGroup(_Group):
    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] | None = None
    head_service: Object | None = None
    enable_ingress: bool = False
    ingress_options: Object | None = None


class WorkerGroup(_Group):
    group_name: str
    replicas: int | None = Field(None, ge=0, le=INT32_MAX)
    min_replicas: int = Field(0, ge=0, le=INT32_MAX)
    max_replicas: int = Field(ge=0, le=INT32_MAX)  # KubeRay would take 2^31: a group needs a cap.
    num_of_hosts: int = Field(1, ge=1, le=INT32_MAX)
    idle_timeout_seconds: int | None = Field(None, ge=0, le=INT32_MAX)
    priority: int | None = Field(None, ge=-INT32_MAX, le=INT32_MAX)
    scale_strategy: Object | None = None
    suspend: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        least, most = self.min_replicas, self.max_replicas
        if least > most:
            raise ValueError(f"minReplicas {least} is above maxReplicas {most}")
        if self.replicas is not None and not least <= self.replicas <= most:
            raise ValueError(f"replicas {self.replicas} is not in {least} to {most}")
        return self


class ClusterSpec(_Part):
    ray_version: str | None = None
    auth_options: AuthOptions | None = None
    enable_in_tree_autoscaling: bool = False
    autoscaler_options: AutoscalerOptions | None = None
    head_group_spec: HeadGroup
    worker_group_specs: list[WorkerGroup] = []
    head_service_annotations: Text = {}
    gcs_fault_tolerance_options: Object | None = None
    history_server_options: Object | None = None
    network_policy: Object | None = None
    tls_options: Object | None = None
    upgrade_strategy: Object | None = None
    managed_by: str | None = None
    suspend: bool = False


class DeletionCondition(_Part):
    job_status: Literal["SUCCEEDED", "FAILED"] | None = None
    job_deployment_status: Literal["Failed"] | None = None
    ttl_seconds: int = Field(0, ge=0, le=INT32_MAX)


class DeletionRule(_Part):
    policy: Deletion
    condition: DeletionCondition


class DeletionPolicy(_Part):
    policy: Deletion | None = None


class DeletionStrategy(_Part):
    deletion_rules: list[DeletionRule] = []
    on_success: DeletionPolicy | None = None
    on_failure: DeletionPolicy | None = None


class SubmitterConfig(_Part):
    backoff_limit: int | None = Field(None, ge=0, le=INT32_MAX)


class JobSpec(_Part):
    entrypoint: str = ""
    entrypoint_num_cpus: float = Field(0, ge=0, le=MOST_CPUS)
    entrypoint_num_gpus: float = Field(0, ge=0, le=MOST_CPUS)
    entrypoint_resources: str = ""
    ray_cluster_spec: ClusterSpec | None = None
    cluster_selector: Text = {}
    submission_mode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"] = (
        "K8sJobMode"
    )
    submitter_pod_template: Object | None = None
    submitter_config: SubmitterConfig | None = None
    runtime_env_yaml: str = Field("", alias="runtimeEnvYAML")
    job_id: str = ""
    metadata: Text = {}
    backoff_limit: int | None = Field(None, ge=0, le=INT32_MAX)
    active_deadline_seconds: int | None = Field(None, gt=0, le=INT64_MAX)
    pre_running_deadline_seconds: int | None = Field(None, gt=0, le=INT64_MAX)
    shutdown_after_job_finishes: bool = False
    ttl_seconds_after_finished: int = Field(0, ge=0, le=INT32_MAX)
    deletion_strategy: DeletionStrategy | None = None
    managed_by: str | None = None
    suspend: bool = False

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.ray_cluster_spec is None and not self.cluster_selector:
            raise ValueError("no cluster: rayClusterSpec or clusterSelector")
        submitted = self.submission_mode != "InteractiveMode" and not self.submitter_pod_template
        if submitted and not self.entrypoint:
            raise ValueError("no entrypoint: nothing would be run")
        if self.ttl_seconds_after_finished and not self.shutdown_after_job_finishes:
            raise ValueError("ttlSecondsAfterFinished needs shutdownAfterJobFinishes: true")
        return self


class Metadata(_Part):
    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    labels: Text = {}
    annotations: Text = {}
    finalizers: list[str] = []


class _Resource(_Part):
    api_version: Literal["ray.io/v1"]
    metadata: Metadata


class RayCluster(_Resource):
    kind: Literal["RayCluster"]
    spec: ClusterSpec


class RayJob(_Resource):
    kind: Literal["RayJob"]
    spec: JobSpec


def is_kuberay(content: Mapping[str, Any]) -> bool:
    """Whether the content of a file is of KubeRay, and not for `ray up`."""
    return "apiVersion" in content or content.get("kind") in KINDS


def pods_are_checked() -> bool:
    """Whether the schemas of Kubernetes are installed."""
    return find_spec("kubernetes_validate") is not None


def problems(path: Path) -> list[str]:
    """Return what is wrong with a RayCluster or RayJob, a line each; none if nothing is.

    Raises:
        InputError: if the file cannot be read at all.
    """
    content = read_cluster_file(path)
    kind = content.get("kind")
    if kind not in KINDS:
        return [f"kind: `{kind}`, {nearest('kind', str(kind), KINDS)}"]
    try:
        read = (RayCluster if kind == "RayCluster" else RayJob).model_validate(content)
    except ValidationError as error:
        return [_explained(each["loc"], each["msg"]) for each in error.errors()]
    spec = read.spec
    if isinstance(spec, ClusterSpec):
        return [*_cluster("spec", spec)]
    found = [*_cluster("spec.rayClusterSpec", spec.ray_cluster_spec)]
    if spec.submitter_pod_template is not None:
        found += _pod("spec.submitterPodTemplate", spec.submitter_pod_template)
    return found


def _explained(place: tuple[int | str, ...], message: str) -> str:
    return f"{_dotted(place) or 'the file'}: {message.removeprefix('Value error, ')}"


def _dotted(place: Iterable[int | str]) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place).removeprefix(".")


def _cluster(where: str, spec: ClusterSpec | None) -> Iterator[str]:
    if spec is None:
        return  # A RayJob on a cluster that is there already.
    yield from _token(where, spec)
    groups = spec.worker_group_specs
    names = [group.group_name for group in groups]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{where}.workerGroupSpecs: {names.count(name)} groups are called `{name}`"
    if not spec.enable_in_tree_autoscaling:
        for i, group in enumerate(groups):
            if group.max_replicas and not (group.replicas or group.min_replicas):
                place = f"{where}.workerGroupSpecs[{i}]"
                yield f"{place}: no pod ever, without enableInTreeAutoscaling: true or replicas"
    yield from _pod(f"{where}.headGroupSpec.template", spec.head_group_spec.template)
    for i, group in enumerate(groups):
        yield from _pod(f"{where}.workerGroupSpecs[{i}].template", group.template)


def _token(where: str, spec: ClusterSpec) -> Iterator[str]:
    """Yield what would leave Ray open to whoever reaches a pod."""
    if spec.auth_options is None or spec.auth_options.mode != "token":
        yield f"{where}.authOptions: Ray without token authentication, mode must be `token`"
    try:
        known = spec.ray_version is not None and Version(spec.ray_version) >= TOKEN_SINCE
    except InvalidVersion:
        known = False
    if not known:
        yield f"{where}.rayVersion: `{spec.ray_version}`, tokens need {TOKEN_SINCE} or later"


def _pod(where: str, template: Object) -> Iterator[str]:
    found = [*_kubernetes(where, template)]
    yield from found
    if found:
        return  # What follows counts on the types.
    spec = template["spec"]
    volumes = {volume["name"] for volume in spec.get("volumes") or ()}
    for part in ("initContainers", "containers"):
        for i, container in enumerate(spec.get(part) or ()):
            yield from _container(f"{where}.spec.{part}[{i}]", container, volumes)


def _container(where: str, container: Object, volumes: set[str]) -> Iterator[str]:
    for mount in container.get("volumeMounts") or ():
        if mount["name"] not in volumes:
            yield f"{where}.volumeMounts: no volume is called `{mount['name']}`"
    for variable in container.get("env") or ():
        value = variable.get("value") or ""
        if len(value) > LONGEST_FLAG and value[0] != "/" and SECRET_NAME.search(variable["name"]):
            yield f"{where}.env: the value of {variable['name']} belongs into a Secret (valueFrom)"
    for part, amounts in (container.get("resources") or {}).items():
        for name, amount in amounts.items() if isinstance(amounts, dict) else ():
            if not QUANTITY.fullmatch(str(amount)):
                yield f"{where}.resources.{part}.{name}: `{amount}` is no quantity, such as 16Gi"


def _kubernetes(where: str, template: Object) -> Iterator[str]:
    """Yield what Kubernetes' own schemas find in a pod template, the first mistake of it."""
    if pods_are_checked():
        import kubernetes_validate as schemas

        whole = {"apiVersion": "v1", "kind": "PodTemplate", "template": template}
        try:
            schemas.validate(whole, schemas.latest_version(), strict=True)
        except schemas.ValidationError as error:
            path = [*error.absolute_path][1:]
            yield _explained((where, *path), _unknown(error) or str(error.message)[:300])
            return
    spec = template.get("spec")
    if not isinstance(spec, dict) or not isinstance(spec.get("containers"), list):
        yield f"{where}.spec.containers: missing, a list of containers"


def _unknown(error: Any) -> str:
    """Return what is said of keys that a schema does not have; empty where it says something else."""
    if error.validator != "additionalProperties":
        return ""
    known = error.schema.get("properties", {})
    wrong = [str(key) for key in error.instance if key not in known]
    return "; ".join(f"unknown setting `{key}`, {_near(key, known)}" for key in wrong)
