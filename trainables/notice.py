"""Whether this machine is about to be taken away: asked of the cloud, which tells its own machines.

A spot machine learns it two minutes ahead at Amazon, half a minute at Google, from an address that only
the machine itself can reach. `HDSWEEP_SPOT=aws` or `gcp` in a worker's environment has it asked; the
cluster files set it. Sources: the services' documentation of interruption notices,
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html and
https://cloud.google.com/compute/docs/instances/preemptible.
"""

import contextlib
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping

POLL_SECONDS = 5.0
TIMEOUT_SECONDS = 2.0
AWS = "http://169.254.169.254"
GCP = "http://metadata.google.internal"

Sign = Callable[[], bool]
"""Asks once whether the machine is about to be taken away."""


def aws_notice(base: str = AWS) -> bool:
    """Ask Amazon; the answer is "not found" until there is something to tell."""
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = _ask(f"{base}/latest/api/token", lifetime, method="PUT")
    if token is None:
        return False
    headers = {"X-aws-ec2-metadata-token": token}
    return _ask(f"{base}/latest/meta-data/spot/instance-action", headers) is not None


def gcp_notice(base: str = GCP) -> bool:
    """Ask Google, which answers TRUE or FALSE."""
    url = f"{base}/computeMetadata/v1/instance/preempted"
    return _ask(url, {"Metadata-Flavor": "Google"}) == "TRUE"


CLOUDS: Mapping[str, Sign] = {"aws": aws_notice, "gcp": gcp_notice}


def cloud_signs() -> tuple[Sign, ...]:
    """Return what asks the cloud that `HDSWEEP_SPOT` names; nothing if it names none."""
    named = CLOUDS.get(os.environ.get("HDSWEEP_SPOT", ""))
    return () if named is None else (named,)


class Notice:
    """Asks now and then, in a thread of its own, so that training waits for no answer.

    Args:
        signs: what is asked; nothing without any.
        every: seconds between two questions.
    """

    def __init__(self, signs: tuple[Sign, ...], *, every: float = POLL_SECONDS) -> None:
        self._signs, self._every = signs, every
        self.given = False
        """Whether the machine is about to be taken away, as far as is known."""
        if self._signs:
            threading.Thread(target=self._watch, name="notice", daemon=True).start()

    def _watch(self) -> None:
        while not self.given:
            with contextlib.suppress(Exception):  # A question that fails is asked again.
                self.given = any(sign() for sign in self._signs)
            time.sleep(self._every)


def _ask(url: str, headers: Mapping[str, str], *, method: str = "GET") -> str | None:
    """Return the answer as text; None if there is none, or nobody to ask."""
    # Straight to the machine's own service, whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            return str(answer.read(1000).decode())
    except (OSError, urllib.error.URLError):
        return None
