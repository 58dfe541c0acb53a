"""What Ray, MLflow, PyTorch and what connects to servers would read from the environment.

Some of it changes where results go, what is run or how it connects: that is the sweep's to say. `settle`
sets it or takes it out, once, when a command starts, so that workers and other children inherit the same.
The rest is passed on knowingly. `hdsweep doctor` lists what it finds, by name: values may be secrets.
"""

import os
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

Does = Literal["passed on", "set", "not used"]

# Read by Ray when it is imported or starts a process.
FOR_RAY = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # `uv run` would have the working directory sent to the workers, and run there.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # The command line decides what Ctrl-C means.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Tune's own snapshots are never restored from: the store is the truth.
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    # How many wait is for our search algorithm to say, which knows how many can run.
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
    "TUNE_WARN_THRESHOLD_S": "30",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}
SET = {**FOR_RAY, "MLFLOW_DISABLE_TELEMETRY": "true"}

OURS = (
    "HDSWEEP_HOME",
    "HDSWEEP_TRACKING_URI",
    "HDSWEEP_CACHE",
    "HDSWEEP_SPOT",
    "HDSWEEP_REAL_DATA",
)
# Read by what computes, in workers too.
CHANGE_NUMBERS = (
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
)
CHANGE_LAST_BITS = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "OPENBLAS_CORETYPE",
    "CUBLAS_WORKSPACE_CONFIG",
)
WORKERS_OWN = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # Where nobody set it.
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
LOOPBACK = ("localhost", "127.0.0.1", "::1", "127.0.0.0/8")


@dataclass(frozen=True)
class Rule:
    """What happens to some variables of the environment, and why."""

    names: str
    """A name, or a pattern of names as of a shell."""
    does: Does
    why: str
    values: tuple[str, ...] = ()
    """In small letters, those that it is about; all if there are none."""

    def concerns(self, name: str, value: str) -> bool:
        """Whether it is about a variable with this value."""
        return fnmatchcase(name, self.names) and (not self.values or value.lower() in self.values)


RULES = (
    *(Rule(name, "set", "a sweep relies on one value") for name in SET),
    *(Rule(name, "passed on", "ours") for name in OURS),
    Rule("HDSWEEP_ACCEPT", "passed on", "of the tests"),
    Rule("HDSWEEP_*", "not used", "hdsweep knows no variable of this name"),
    # Ray.
    Rule("TUNE_*", "not used", "where results go, and how trials are run, is the sweep's to say"),
    Rule("RAY_AIR_*", "not used", "where results go is the home's to say"),
    Rule("RAY_TRAIN_*", "not used", "how trials are run is the sweep's to say"),
    Rule("RAY_STORAGE", "not used", "where results go is the home's to say"),
    Rule("RAY_CLIENT_MODE", "not used", "the sweep is driven from where it was started"),
    Rule(
        "RAY_RUNTIME_ENV_HOOK", "not used", "workers run the driver's code and nothing before it"
    ),
    Rule("RAY_EXPERIMENTAL_NOSET_*", "not used", "each worker sees the GPU that it was granted"),
    Rule(
        "RAY_ADDRESS", "passed on", "the cluster that `--address auto` means; no other is joined"
    ),
    Rule(
        "RAY_AUTH_MODE",
        "not used",
        "whoever reaches a Ray without a token runs code as its owner",
        ("disabled",),
    ),
    Rule("RAY_AUTH_*", "passed on", "how a Ray cluster is entered"),
    Rule("RAY_*", "passed on", "Ray's own settings, which change no result"),
    # MLflow.
    Rule(
        "MLFLOW_TRACKING_URI", "not used", "--tracking-uri or HDSWEEP_TRACKING_URI names a server"
    ),
    Rule("MLFLOW_TRACKING_DIR", "not used", "where results go is the home's to say"),
    Rule("MLFLOW_TRACKING_*", "passed on", "how a server of MLflow is entered"),
    *(
        Rule(f"MLFLOW_{what}_*", "passed on", "how a server or a bucket is reached")
        for what in ("HTTP", "S3", "GCS", "BOTO", "KERBEROS", "MYSQL", "WORKSPACE")
    ),
    Rule("MLFLOW_WORKSPACE", "passed on", "part of the address of a server of MLflow"),
    Rule("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "passed on", "talk only"),
    Rule("MLFLOW_*LOGGING_LEVEL", "passed on", "talk only"),
    Rule(
        "MLFLOW_*", "not used", "where results go, and how the UI is served, is hdsweep's to say"
    ),
    # Numbers.
    *(
        Rule(
            name, "not used", "it would change the numbers of a run, of which nothing is recorded"
        )
        for name in CHANGE_NUMBERS
    ),
    Rule("TORCH_FORCE_*WEIGHTS_ONLY_LOAD", "not used", "a file of weights must never run code"),
    *(
        Rule(name, "passed on", "last bits of a run may be other ones than without it")
        for name in CHANGE_LAST_BITS
    ),
    Rule("PYTORCH_*ALLOC_CONF", "passed on", "how a GPU's memory is given out"),
    Rule("CUDA_VISIBLE_DEVICES", "passed on", "the GPUs that there are"),
    Rule("PYTHONPATH", "passed on", "where libraries are found; our own packages are not"),
    # Servers.
    *(
        Rule(spelt, "passed on", "for other machines only: this one is never asked through it")
        for name in PROXIES
        for spelt in (name, name.upper())
    ),
    *(
        Rule(spelt, "passed on", "this machine is added, if there is a proxy")
        for spelt in ("no_proxy", "NO_PROXY")
    ),
)


@dataclass(frozen=True)
class Found:
    """A variable of the environment that a rule is about."""

    name: str
    rule: Rule

    def __str__(self) -> str:
        return f"{self.name} is {self.rule.does}: {self.rule.why}"


_settled: list[Found] = []
"""What was found before it was settled, in this process."""


def find(environment: Mapping[str, str]) -> Iterator[Found]:
    """Yield the variables that there are rules for; those that have our value already are ours."""
    for name in sorted(environment):
        rule = next((each for each in RULES if each.concerns(name, environment[name])), None)
        if rule is not None and environment[name] != SET.get(name):
            yield Found(name, rule)


def settle(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what is ours to set, take out what is not to be used, and spare this machine a proxy."""
    found = list(find(environment))
    known = {each.name for each in _settled}
    _settled.extend(each for each in found if each.name not in known)
    for each in found:
        if each.rule.does == "not used":
            del environment[each.name]
    environment.update(SET)
    if any(environment.get(name) or environment.get(name.upper()) for name in PROXIES):
        spared = _spared(environment)
        environment["no_proxy"] = environment["NO_PROXY"] = spared


def of_numbers(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a worker computes by, of the variables that change numbers or their last bits."""
    told = WORKERS_OWN | dict(environment)
    return {name: told[name] for name in (*CHANGE_NUMBERS, *CHANGE_LAST_BITS) if name in told}


def settled() -> list[Found]:
    """Return what `settle` found, before it took any of it out."""
    return list(_settled)


def told() -> list[str]:
    """Return a line for each variable that somebody set and that has not its effect."""
    return [f"environment: {each}" for each in _settled if each.rule.does != "passed on"]


def _spared(environment: Mapping[str, str]) -> str:
    told = ",".join(environment.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    hosts = [host.strip() for host in told.split(",") if host.strip()]
    return "*" if "*" in hosts else ",".join(dict.fromkeys([*hosts, *LOOPBACK]))
