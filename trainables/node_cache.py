"""What a machine keeps of what many runs read: datasets, pretrained and ImageNet weights, by content.

The first worker of a machine that needs one copies it from where all machines find it; the others wait
for that and use the same files. What came is held to the digest that is part of the run's key, so that
a copy cut short, or a file exchanged meanwhile, is noticed before anything is trained on it.

<folder>/datasets/<fingerprint>/   pretrained/<key>/   weights/<sha256>/   code/<file's name>-<digest>/
"""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from trainables.checkpoint import sha256_of
from trainables.data.errors import DatasetChangedError, DatasetError
from trainables.data.prepared import DATA_FILE, DESCRIPTION_FILE
from trainables.data.store import content_fingerprint_of, exclusive
from trainables.networks.start import WEIGHTS_FILE
from trainables.result import RESULT_FILE, Result
from trainables.storage import Storage


class DamagedCopyError(Exception):
    """What was copied to this machine is not what the run was planned with."""


class NodeCache:
    """Copies on this machine of what lies in a home that all machines share."""

    def __init__(self, folder: Path, home: Storage) -> None:
        self.folder, self._home = folder, home

    def dataset(self, name: str, fingerprint: str) -> Path:
        """Return the folder of a prepared dataset.

        Raises:
            DatasetError: if it is not in the home, or not the one of this fingerprint.
        """

        def fill(folder: Path) -> None:
            try:
                self._bring(name, (DESCRIPTION_FILE, DATA_FILE), folder)
            except FileNotFoundError as error:
                raise DatasetError(f"no dataset `{name}` in {self._home.place}") from error
            if content_fingerprint_of(folder) != fingerprint:
                raise DatasetChangedError(
                    f"{self._home.place}/{name}: the dataset changed since the run was planned"
                )

        return self._entry(f"datasets/{fingerprint}", fill)

    def pretrained(self, name: str, key: str) -> Path:
        """Return a folder with the weights that a stored pretraining left.

        Raises:
            DamagedCopyError: if they are not those that its result lists.
        """

        def fill(folder: Path) -> None:
            self._bring(name, (RESULT_FILE, WEIGHTS_FILE), folder)
            result = Result.read(folder)
            self._require(folder / WEIGHTS_FILE, result.artifacts[WEIGHTS_FILE].sha256)

        return self._entry(f"pretrained/{key}", fill)

    def weights(self, name: str, sha256: str) -> Path:
        """Return a file of ImageNet weights.

        Raises:
            DamagedCopyError: if its content is another.
        """
        path = PurePosixPath(name)

        def fill(folder: Path) -> None:
            self._bring(str(path.parent), (path.name,), folder)
            self._require(folder / path.name, sha256)

        return self._entry(f"weights/{sha256}", fill) / path.name

    def code(self, name: str) -> Path:
        """Return a folder of the user's code, which is named by its content."""
        files = [each.removeprefix(f"{name}/") for each in self._home.all(name)]
        return self._entry(name, lambda folder: self._bring(name, files, folder))

    def _entry(self, name: str, fill: Callable[[Path], None]) -> Path:
        """Return a folder that is filled once, whichever worker comes first, or not at all."""
        folder = self.folder / name
        if folder.is_dir():
            return folder
        with exclusive(folder):
            if not folder.is_dir():
                partial = folder.with_name(f".{folder.name}.partial")
                shutil.rmtree(partial, ignore_errors=True)  # Of a worker that was killed.
                partial.mkdir(parents=True, mode=0o700)
                try:
                    fill(partial)
                    partial.rename(folder)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
        return folder

    def _bring(self, name: str, files: Iterable[str], folder: Path) -> None:
        for file in files:
            self._home.download(f"{name}/{file}", folder / file)

    def _require(self, path: Path, sha256: str) -> None:
        if sha256_of(path) != sha256:
            raise DamagedCopyError(f"{self._home.place}: {path.name} is not the file it was")
