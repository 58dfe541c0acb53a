"""Content keys and seeds: the same run has the same name and the same noise on any machine.

A key covers everything that can change a result and nothing that cannot. The fingerprint of a
dataset is in; its location, the number of workers and the log level are out, so moving to another
cluster never invalidates finished work.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

KEY_HEX_DIGITS = 16  # 64 bits: a clash among a million runs has odds of about 3 in 10^8


def content_key(content: Json) -> str:
    """Return a short stable name for `content`.

    Raises:
        ValueError: if `content` holds NaN or infinity, which JSON cannot carry between machines.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_HEX_DIGITS]


def derive_seed(seed: int, *path: str | int) -> int:
    """Return the seed in [0, 2**32) of one random choice, e.g. `derive_seed(0, "noise", 17)`.

    Derived from names, never from a position in a stream, so that workers, prefetching, another
    target or a resume move no other draw. Leave the method out of `path` where methods must face
    the same draw: the comparison is then paired, and fewer seeds are needed to see a difference.
    """
    return int(content_key([seed, *path])[:8], 16)
