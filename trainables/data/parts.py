"""What an interrupted preparation has read already, so that the next one goes on from there.

Beside the dataset that is being prepared lies a folder of parts, each an Arrow file of some samples,
renamed into place when it is whole. A part is named by what it was read from: the same files of the
same size and time, read by the same version for the same side. Mending one file of a release so
costs one part.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from trainables.data.info import DatasetInfo, Entry, Sample
from trainables.data.releases.sources import file_state
from trainables.data.store import read_part, write_part


class Parts:
    """The parts of one preparation."""

    def __init__(self, folder: Path, info: DatasetInfo, side: int) -> None:
        """Open the folder in which earlier preparations left theirs, or make it."""
        self._folder, self._info, self._side = folder, info, side
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def read(self, entries: Sequence[Entry]) -> list[Sample] | None:
        """Return the samples of these entries; None if they have not been read before."""
        return read_part(self._path(entries), self._side)

    def write(self, entries: Sequence[Entry], samples: Sequence[Sample]) -> None:
        """Keep the samples of these entries."""
        write_part(self._path(entries), samples, self._side)

    def remove(self) -> None:
        """Delete all parts."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, entries: Sequence[Entry]) -> Path:
        info = self._info
        known = hashlib.sha256(
            json.dumps([info.name, info.version, list(info.classes), self._side]).encode()
        )
        for entry in entries:
            known.update(json.dumps([entry.id, entry.split]).encode())
            for path in (entry.image, *entry.masks):
                known.update(json.dumps(file_state(path)).encode())
        return self._folder / f"{known.hexdigest()[:32]}.arrow"
