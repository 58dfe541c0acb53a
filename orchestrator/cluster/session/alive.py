"""Whether Ray's own processes of a sweep on this machine still live.

Tune goes on looking for resources for ever where the raylet is gone, killed by hand or by the kernel for
want of memory: a sweep would hang without a word.
"""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator

from orchestrator.cluster.session.private import GLOBAL_NODE
from orchestrator.errors import HdsweepError
from orchestrator.json_documents import error_document

PAUSE_S, GRACE_S = 1.0, 15.0
PARTS = ("gcs_server", "raylet")


class RayLostError(HdsweepError):
    """A process of Ray ended in the middle of a sweep."""


def require_ray_alive() -> None:
    """Raise a RayLostError if a process of the Ray that this process started has ended.

    Nothing is known, and nothing raised, of a Ray that was joined.
    """
    node = GLOBAL_NODE.get()
    started = node.all_processes if node is not None else {}
    for name in PARTS:
        for each in started.get(name, ()):
            status = each.process.poll()
            if status is not None:
                how = f"killed by signal {-status}" if status < 0 else f"status {status}"
                raise RayLostError(
                    f"Ray's `{name}` has ended ({how}), and nothing can run without it; what is finished "
                    "is stored",
                    hint="the same command goes on; where the kernel ended it, with fewer --workers",
                )


@contextlib.contextmanager
def ending_with_ray() -> Iterator[None]:
    """End this process if Ray's own have ended and the block does not notice.

    Without its GCS, Ray waits a minute in a call that no exception reaches, and then ends the process with
    words of its own. The store is whole at any moment, and workers end with their parent.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(PAUSE_S):
            try:
                require_ray_alive()
            except RayLostError as error:
                if over.wait(GRACE_S):
                    return
                machines = "--json" in sys.argv
                told = json.dumps(error_document(error)) if machines else f"error: {error}"
                print(told, file=sys.stderr, flush=True)
                os._exit(error.exit_code)

    thread = threading.Thread(target=watch, name="ray-alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
