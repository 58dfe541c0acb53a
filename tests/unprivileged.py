"""Being kept out by permissions, even as root, as whom tests often run."""

import contextlib
import ctypes
import os

NOBODY = 65534
OVERRIDES = 0b1111  # Capabilities: to own, write, read and change what is another's.


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Sets(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32 * 1) for name in ("effective", "permitted", "inheritable")]


@contextlib.contextmanager
def unprivileged():
    """Be kept out by permissions for a while, even as root: without the capabilities to override them."""
    if os.geteuid() != 0:
        yield
        return
    libc, header, sets = ctypes.CDLL(None, use_errno=True), _Header(0x20080522, 0), (_Sets * 2)()
    assert libc.capget(ctypes.byref(header), sets) == 0
    before = sets[0].effective[0]
    sets[0].effective[0] = before & ~OVERRIDES
    assert libc.capset(ctypes.byref(header), sets) == 0
    try:
        yield
    finally:
        sets[0].effective[0] = before
        assert libc.capset(ctypes.byref(header), sets) == 0


def another(path):
    """Make a path another user's; who is not root can only shut themselves out."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    else:
        path.chmod(0o555 if path.stat().st_mode & 0o055 else 0)
