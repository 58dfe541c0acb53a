"""Prepared datasets: one Arrow file that every worker memory-maps, and its content fingerprint.

`data.arrow` is an Arrow IPC file with columns id, split, image and labels; the last two are
fixed-shape tensors of uint8, uncompressed, so that pixels are read where they lie in the file. It
comes with `dataset.json` and `contents.json`; the folder appears under its name only when both are complete.

The fingerprint is over the content and not over the file, so another Arrow version that frames it
differently makes the same dataset.

Shape suffixes: B batch, N rows of one record batch, S side; images are (.., S, S, 3).
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainables.data.contents import CONTENTS_FILE
from trainables.data.errors import DatasetChangedError, DatasetError, EmptyClassError
from trainables.data.info import DatasetInfo, LabelsAt, Sample
from trainables.data.labels import Tally, wrong_label
from trainables.data.prepared import DATA_FILE, DESCRIPTION_FILE, Prepared, known_of, read_prepared
from trainables.remembered import remembered

VERIFIED_FILE = "verified.json"

ROWS = 128  # Most rows of a record batch,
BATCH_BYTES = 64 * 2**20  # and most bytes: what writing holds in memory.


class ArrowDataset:
    """Images and labels of a prepared dataset, read from a memory map."""

    def __init__(self, table: pa.Table, *, labels_at: LabelsAt = "centre") -> None:
        self.labels_at: LabelsAt = labels_at
        """Where batches take labels when they resize them."""
        self.ids: tuple[str, ...] = tuple(table["id"].to_pylist())
        self.official_split: tuple[str, ...] = tuple(table["split"].to_pylist())
        self._images_NSSC = [chunk.to_numpy_ndarray() for chunk in table["image"].chunks]
        self._labels_NSS = [chunk.to_numpy_ndarray() for chunk in table["labels"].chunks]
        self._readable = np.ones(len(self.ids), bool)
        self._starts = np.cumsum([0, *map(len, self._images_NSSC)])

    @classmethod
    def open(cls, folder: Path, *, fingerprint: str) -> "ArrowDataset":
        """Map the dataset in `folder`; pixels are read when they are asked for.

        Raises:
            DatasetChangedError: if it is not the dataset with this fingerprint, or is torn.
        """
        prepared = _described(folder)
        if prepared.fingerprint != fingerprint:
            raise DatasetChangedError(
                f"{folder}: the dataset changed since the run was planned: fingerprint "
                f"{prepared.fingerprint[:16]} instead of {fingerprint[:16]}"
            )
        return cls(_mapped(folder, prepared), labels_at=prepared.labels_at)

    def only(self, indices: Sequence[int] | NDArray[np.int64]) -> "ArrowDataset":
        """Return the same dataset, of which nothing but these images can be read."""
        limited = copy(self)
        limited._readable = np.zeros(len(self), bool)
        limited._readable[np.asarray(indices, dtype=np.int64)] = True
        return limited

    def __len__(self) -> int:
        return len(self.ids)

    def images(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return a copy of images_BSSC, uint8 RGB."""
        return self._rows(self._images_NSSC, indices)

    def labels(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return a copy of labels_BSS: class ids, 255 where ignored."""
        return self._rows(self._labels_NSS, indices)

    def _rows(
        self, chunks: list[NDArray[np.uint8]], indices: Sequence[int] | NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"indices must lie in [0, {len(self)})")
        if not self._readable[wanted].all():
            raise IndexError("this part of the dataset is not to be read here")
        of_chunk = np.searchsorted(self._starts, wanted, side="right") - 1
        rows = np.empty((len(wanted), *chunks[0].shape[1:]), np.uint8)
        for i, (chunk, row) in enumerate(
            zip(of_chunk.tolist(), (wanted - self._starts[of_chunk]).tolist(), strict=True)
        ):
            rows[i] = chunks[chunk][row]
        return rows


class Fingerprint:
    """Running hash of a dataset's content, sample by sample in the order of ids."""

    def __init__(self, classes: Sequence[str], side: int) -> None:
        self._hash = hashlib.sha256(json.dumps([list(classes), side]).encode())

    def add(self, sample: Sample) -> None:
        # JSON delimits the texts, and all images have one size: no two contents share the bytes.
        self._hash.update(json.dumps([sample.id, sample.split]).encode())
        self._hash.update(np.ascontiguousarray(sample.image_HWC).data)
        self._hash.update(np.ascontiguousarray(sample.labels_HW).data)

    def hexdigest(self) -> str:
        """Return 64 hexadecimal digits."""
        return self._hash.hexdigest()


def content_fingerprint(classes: Sequence[str], side: int, samples: Iterable[Sample]) -> str:
    """Return the SHA-256 of a dataset's content, as 64 hexadecimal digits."""
    fingerprint = Fingerprint(classes, side)
    for sample in samples:
        fingerprint.add(sample)
    return fingerprint.hexdigest()


def write_dataset(
    folder: Path,
    info: DatasetInfo,
    samples: Iterable[Sample],
    side: int,
    *,
    skipped: Sequence[str] = (),
    sources: str = "",
    found: int = 0,
    allow_empty_class: bool = True,
) -> Prepared:
    """Write a prepared dataset, in place of whatever was in `folder` once it is complete.

    Args:
        samples: sorted by id; held in memory a record batch at a time.
        skipped: what was left out and why, read when `samples` has come to its end.
        sources, found: as in the description.
        allow_empty_class: write it though a class has no pixel.

    Raises:
        EmptyClassError: if a class has none and must have some.
        DatasetError: if a sample is not of this side, has a label that is no class, or ids are not
            in ascending order.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # Left by a process that was killed.
    partial.mkdir(parents=True, mode=0o700)
    try:
        path = partial / DATA_FILE
        tally = Tally(len(info.classes))
        counted = tally.counted(_checked(samples, info, side))
        fingerprint, images = _write(path, info, counted, side)
        prepared = Prepared(
            fingerprint=fingerprint,
            stored_side=side,
            images=images,
            bytes=path.stat().st_size,
            skipped=tuple(skipped),
            found=found,
            sources=sources,
            pixels=tuple(tally.pixels_K.tolist()),
            **known_of(info),
        )
        if not allow_empty_class:
            require_every_class(prepared)
        write_private(partial / CONTENTS_FILE, tally.contents().model_dump_json())
        write_private(partial / DESCRIPTION_FILE, prepared.model_dump_json(indent=1))
        _replace(folder, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return prepared


def require_every_class(prepared: Prepared) -> None:
    """Raise an EmptyClassError if a class of a dataset has no pixel."""
    if prepared.empty_classes:
        names = ", ".join(f"`{name}`" for name in prepared.empty_classes)
        raise EmptyClassError(
            f"`{prepared.name}`: no pixel of {names} in any of {prepared.images} images at "
            f"{prepared.stored_side} px; --allow-empty-class takes it all the same"
        )


def write_part(path: Path, samples: Sequence[Sample], side: int) -> None:
    """Write some samples to an Arrow file that appears when it is whole."""
    partial = path.with_suffix(".partial")
    with open(os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        with pa.ipc.new_file(file, _schema(side)) as writer:
            for batch in _batches(iter(samples), side):
                writer.write_batch(_record_batch(batch, side))
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def read_part(path: Path, side: int) -> list[Sample] | None:
    """Return the samples of `write_part`, as views of the file; None if it is missing or torn."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    if table.schema != _schema(side):
        return None
    return list(_samples(ArrowDataset(table)))


def content_fingerprint_of(folder: Path) -> str:
    """Return the fingerprint of what is in the Arrow file now, reading all of it.

    Raises:
        DatasetChangedError: if it is not the fingerprint that the dataset was prepared with.
    """
    prepared = _described(folder)
    samples = _samples(ArrowDataset(_mapped(folder, prepared)))
    found = content_fingerprint(prepared.classes, prepared.stored_side, samples)
    if found != prepared.fingerprint:
        raise DatasetChangedError(
            f"{folder / DATA_FILE}: content changed since it was prepared: fingerprint "
            f"{found[:16]} instead of {prepared.fingerprint[:16]}"
        )
    return found


def verify(folder: Path) -> str:
    """Return the fingerprint of a dataset whose content is still the one that was prepared.

    Reads all of it, unless the file's size and time of change are those of the last time, which
    `verified.json` remembers.

    Raises:
        DatasetChangedError: if the content is another.
    """
    prepared = _described(folder)
    path = folder / DATA_FILE
    if not path.is_file():
        raise DatasetChangedError(f"{path}: not there")
    found = remembered(path, folder / VERIFIED_FILE, lambda: content_fingerprint_of(folder))
    # Another than described: then the description changed, and reading all of it says so.
    return found if found == prepared.fingerprint else content_fingerprint_of(folder)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Let one process at a time prepare `folder`; the kernel drops the lock of a dead one."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder.with_name(f".{folder.name}.lock")
    lock = _locked(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def _locked(path: Path) -> int:
    """Return the open lock file, held by this process alone."""
    while True:
        lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Whoever had it before removed it: then others lock the one that is there now.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        os.close(lock)


def _write(path: Path, info: DatasetInfo, samples: Iterable[Sample], side: int) -> tuple[str, int]:
    """Write the Arrow file; return the fingerprint of its content and the number of images."""
    fingerprint, images = Fingerprint(info.classes, side), 0
    with path.open("wb") as file:
        with pa.ipc.new_file(file, _schema(side)) as writer:
            for batch in _batches(iter(samples), side):
                for sample in batch:
                    fingerprint.add(sample)
                writer.write_batch(_record_batch(batch, side))
                images += len(batch)
        file.flush()
        os.fsync(file.fileno())
    if not images:
        raise DatasetError(f"`{info.name}` has no images")
    path.chmod(0o600)
    return fingerprint.hexdigest(), images


def _replace(folder: Path, partial: Path) -> None:
    """Put `partial` in the place of `folder`; who has mapped the old file keeps reading it."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _checked(samples: Iterable[Sample], info: DatasetInfo, side: int) -> Iterator[Sample]:
    last = ""
    for sample in samples:
        where = f"`{info.name}`, image `{sample.id}`"
        if sample.id <= last:
            raise DatasetError(f"{where}: ids must ascend, the one before is `{last}`")
        if sample.image_HWC.shape != (side, side, 3) or sample.labels_HW.shape != (side, side):
            raise DatasetError(f"{where}: image and labels must have {side}x{side} pixels")
        if wrong := wrong_label(sample.labels_HW, len(info.classes)):
            raise DatasetError(f"{where}: {wrong}")
        last = sample.id
        yield sample


def _batches(samples: Iterator[Sample], side: int) -> Iterator[list[Sample]]:
    rows = max(1, min(ROWS, BATCH_BYTES // (4 * side * side)))
    while batch := list(islice(samples, rows)):
        yield batch


def _schema(side: int) -> pa.Schema:
    return pa.schema(
        {
            "id": pa.string(),
            "split": pa.string(),
            "image": pa.fixed_shape_tensor(pa.uint8(), (side, side, 3)),
            "labels": pa.fixed_shape_tensor(pa.uint8(), (side, side)),
        }
    )


def _record_batch(batch: list[Sample], side: int) -> pa.RecordBatch:
    schema = _schema(side)
    columns = [
        _texts([sample.id for sample in batch]),
        _texts([sample.split for sample in batch]),
        _tensors(schema.field("image").type, [sample.image_HWC for sample in batch]),
        _tensors(schema.field("labels").type, [sample.labels_HW for sample in batch]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


# From buffers: `pa.array` would first import pandas, which takes longer than reading some images.
def _texts(texts: list[str]) -> pa.StringArray:
    encoded = [text.encode() for text in texts]
    starts = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
    buffers = pa.py_buffer(starts), pa.py_buffer(b"".join(encoded))
    return pa.StringArray.from_buffers(len(texts), *buffers)


def _tensors(kind: pa.FixedShapeTensorType, arrays: list[NDArray[np.uint8]]) -> pa.ExtensionArray:
    levels = np.ascontiguousarray(np.stack(arrays))  # Also of arrays that are transposed.
    flat = pa.Array.from_buffers(pa.uint8(), levels.size, [None, pa.py_buffer(levels)])
    rows = pa.FixedSizeListArray.from_arrays(flat, levels[0].size)
    return pa.ExtensionArray.from_storage(kind, rows)


def _described(folder: Path) -> Prepared:
    prepared = read_prepared(folder)
    if prepared is None:
        raise DatasetChangedError(f"{folder}: no prepared dataset here")
    return prepared


def _mapped(folder: Path, prepared: Prepared) -> pa.Table:
    """Return the file as a table whose buffers lie in a memory map.

    Raises:
        DatasetChangedError: if the file is missing, torn, or of another shape than described.
    """
    path = folder / DATA_FILE
    try:
        if path.stat().st_size != prepared.bytes:
            raise DatasetChangedError(
                f"{path}: {path.stat().st_size:,} bytes instead of {prepared.bytes:,}"
            )
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise DatasetChangedError(f"{path}: not readable: {error}") from error
    if table.schema != _schema(prepared.stored_side) or len(table) != prepared.images:
        raise DatasetChangedError(f"{path}: not the dataset that {DESCRIPTION_FILE} describes")
    return table


def _samples(data: ArrowDataset) -> Iterator[Sample]:
    """Yield all samples as views of the map, for hashing."""
    position = 0
    for images_NSSC, labels_NSS in zip(data._images_NSSC, data._labels_NSS, strict=True):
        for image, labels in zip(images_NSSC, labels_NSS, strict=True):
            yield Sample(
                id=data.ids[position],
                image_HWC=image,
                labels_HW=labels,
                split=data.official_split[position],
            )
            position += 1


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, onto the disk before returning."""
    with open(
        os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
