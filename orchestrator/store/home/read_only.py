"""A database that may only be looked at: on a read-only disk, or another user's.

MLflow's is in write-ahead mode, and to open such a one SQLite wants to write two files beside it. Where that
is forbidden it is read as one that nobody changes, if nobody has it open, and else through the files that
whoever writes it keeps there. What a killed driver left in them on a read-only disk is read from a copy.
"""

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

PATIENCE_S = 20
BESIDE = ("-wal", "-shm")


def allowed(path: Path, mode: int) -> bool:
    """Whether this process, with the rights that it has now, may do something with a path."""
    return os.access(path, mode, effective_ids=True)


def may_write(database: Path) -> bool:
    """Whether this process may change a database, which takes its folder too."""
    return allowed(database, os.W_OK) and allowed(database.parent, os.W_OK | os.X_OK)


@contextlib.contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that reads a database, whether or not it may be written.

    Raises:
        sqlite3.Error: if it is none, is damaged, or stays locked.
        OSError: if it may not be read.
    """
    with contextlib.ExitStack() as stack:
        if may_write(database):
            opened = sqlite3.connect(database, timeout=PATIENCE_S)
        else:
            opened = _only_read(database, stack)
        yield stack.enter_context(contextlib.closing(opened))


def copy_to(database: Path, folder: Path) -> Path:
    """Return a copy of a database as it is now, below a folder.

    Raises:
        sqlite3.Error: if it is damaged, or stays locked.
        OSError: if it may not be read.
    """
    copy = folder / database.name
    with reading(database) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def _only_read(database: Path, stack: contextlib.ExitStack) -> sqlite3.Connection:
    database.open("rb").close()  # Says why it may not be read, which SQLite does not.
    address = database.absolute().as_uri()
    beside = [database.with_name(f"{database.name}{end}") for end in BESIDE]
    if not any(path.exists() for path in beside):
        return sqlite3.connect(f"{address}?immutable=1", uri=True, timeout=PATIENCE_S)
    opened = sqlite3.connect(f"{address}?mode=ro", uri=True, timeout=PATIENCE_S)
    try:
        opened.execute("SELECT 1 FROM sqlite_master").fetchall()
    except sqlite3.OperationalError:
        opened.close()
    else:
        return opened
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hdsweep-database-")))
    for path in (database, *beside):
        if path.exists() and not path.name.endswith("-shm"):
            shutil.copyfile(path, folder / path.name)
    return sqlite3.connect(folder / database.name, timeout=PATIENCE_S)
