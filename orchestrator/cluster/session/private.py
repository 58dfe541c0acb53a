"""The names of Ray that nothing public stands for: which they are, what they are for, and what if one is gone.

Ray may rename them in any version. One that we would replace in vain would leave a sweep open to others or
deaf to Ctrl-C without a word, so each is looked up here, and a Ray without it is refused.
"""

import contextlib
import importlib
import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from orchestrator.errors import HdsweepError

TRIED = "2.60.0"
"""The Ray that all of them were tried with."""


class OtherRayError(HdsweepError):
    """The installed Ray lacks something that only Rays like the one that was tried have."""


@dataclass(frozen=True)
class Private:
    """A private name of Ray's."""

    module: str
    path: str
    """In the module: `ConsolePopen`, `JobConfig._runtime_env_has_working_dir`."""
    use: str
    """What we need it for."""

    def get(self) -> Any:
        """Return what bears the name now.

        Raises:
            OtherRayError: if nothing does.
        """
        try:
            return attrgetter(self.path)(importlib.import_module(self.module))
        except (ImportError, AttributeError) as error:
            raise OtherRayError(
                f"Ray {importlib.metadata.version('ray')} has no `{self.module}.{self.path}`, by which "
                f"{self.use}; hdsweep was tried with Ray {TRIED}",
                hint=f'`pip install "ray[default,tune]=={TRIED}"`',
            ) from error

    @contextlib.contextmanager
    def replaced(self, value: Any) -> Iterator[None]:
        """Have something else bear the name for a while."""
        before = self.get()
        owner, _, name = self.path.rpartition(".")
        module = importlib.import_module(self.module)
        place = attrgetter(owner)(module) if owner else module
        setattr(place, name, value)
        try:
            yield
        finally:
            setattr(place, name, before)


CONSOLE_POPEN = Private(
    "ray._private.services", "ConsolePopen", "its processes are kept from signals for the driver"
)
SET_SIGTERM_HANDLER = Private(
    "ray._private.utils", "set_sigterm_handler", "what SIGTERM means stays the driver's to say"
)
GLOBAL_NODE = Private(
    "ray._private.worker", "_global_node", "a Ray that died is told from one that is busy"
)
MAY_BE_JOINED = Private(
    "ray._private.ray_constants", "ENABLE_RAY_CLUSTER", "it listens on 127.0.0.1 only"
)
SENDS_A_DIRECTORY = Private(
    "ray.job_config",
    "JobConfig._runtime_env_has_working_dir",
    "workers do not import what lies in the working directory",
)
DRAINING_NODES = Private(
    "ray._private.state",
    "state.get_draining_nodes",
    "runs are saved before a machine is taken away",
)
PREPARE_CONFIG, VALIDATE_CONFIG = (
    Private("ray.autoscaler._private.util", name, "cluster files are checked")
    for name in ("prepare_config", "validate_config")
)
NEEDED = (
    CONSOLE_POPEN,
    SET_SIGTERM_HANDLER,
    GLOBAL_NODE,
    MAY_BE_JOINED,
    SENDS_A_DIRECTORY,
    DRAINING_NODES,
)
"""By every sweep."""


def require_known_ray() -> None:
    """Raise an OtherRayError unless the installed Ray has all that a sweep needs of it."""
    for each in NEEDED:
        each.get()
