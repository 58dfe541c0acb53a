"""The processes that read images: how they are started, what they bring back, and how they end."""

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.files.readers import ReaderLostError, Readers
from trainables.data.files.reading import attempts
from trainables.data.own.describe import describe
from trainables.data.own.imported import info_of

START = """
import json, os, signal, sys
from trainables.data.files.readers import Readers
"""
READ = """
if sys.argv[2] == "threads":
    from threading import Event, Thread
    Thread(target=Event().wait, daemon=True).start()
if __name__ == "__main__":
    with Readers(2) as readers:
        from pathlib import Path
        from multiprocessing import active_children
        from trainables.data.own.describe import describe
        from trainables.data.own.imported import info_of
        from trainables.data.prepare import How, prepare
        kinds = sorted({type(each).__name__ for each in active_children()})
        root = Path(sys.argv[1])
        info = info_of(describe("mine", root / "images", root / "masks", root / "classes.txt"))
        how = How(workers=2, readers=readers)
        prepared = prepare(info, info.sources, root / sys.argv[2], image_size=8, how=how)
    loaded = sorted({"pandas"} & set(sys.modules))
    print(json.dumps([kinds, prepared.fingerprint, loaded]))
"""
HOLD = """
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"taken in by a child\\n"))
with Readers(2) as readers:
    from multiprocessing import active_children
    print(json.dumps([each.pid for each in active_children()]), flush=True)
    sys.stdin.read()
"""


def made(root: Path, count: int = 9) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    draw = np.random.default_rng(0)
    for i in range(count):
        image = draw.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(image).save(root / f"images/{i}.png")
        mask = draw.integers(0, 3, (20, 30), dtype=np.uint8)
        Image.fromarray(mask).save(root / f"masks/{i}.png")
    (root / "classes.txt").write_text("a\nb\nc")
    return root


def test_forked_or_spawned_they_bring_the_same(tmp_path: Path) -> None:
    """A program with one thread forks, one with several does not; neither loads pandas, which is slow."""
    root = made(tmp_path / "set")
    script = tmp_path / "script.py"
    script.write_text(START + READ)
    found = {}
    for kind in ("alone", "threads"):
        command = [sys.executable, str(script), str(root), kind]
        found[kind] = json.loads(subprocess.check_output(command))
    assert found["alone"][0] == ["ForkProcess"]
    assert found["threads"][0] == ["SpawnProcess"]
    assert found["alone"][1:] == found["threads"][1:]
    assert found["alone"][2] == []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("to", ["parent", "child"])
def test_none_is_left_over_and_none_answers_for_the_program(to: str) -> None:
    """Forked, they have its handlers, and the ends of its pipes that say whether it still lives."""
    command = [sys.executable, "-c", START + HOLD]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, encoding="utf-8", **pipes) as process:  # type: ignore[call-overload]
        pids = json.loads(process.stdout.readline())
        assert len(pids) == 2
        assert all(map(alive, pids))
        os.kill(process.pid if to == "parent" else pids[0], signal.SIGKILL)
        if to == "child":
            os.kill(pids[1], signal.SIGTERM)
        while any(map(alive, pids)):
            time.sleep(0.05)
        assert "taken in" not in process.communicate()[0]


def test_what_is_bad_is_told_in_its_place(tmp_path: Path) -> None:
    root = made(tmp_path / "set", count=23)
    (root / "images/5.png").write_bytes(b"no image")
    info = info_of(describe("mine", root / "images", root / "masks", root / "classes.txt"))
    entries = info.find(root).entries
    results = {n: list(attempts(info, entries, 8, n)) for n in (1, 3)}
    ids = [entry.id for entry in entries]
    for found in results.values():
        read = [getattr(each, "id", each) for each in found]
        assert [i for i, each in enumerate(read) if each != ids[i]] == [ids.index("5")]
        assert "5.png: not a readable image" in read[ids.index("5")]
    for one, other in zip(*results.values(), strict=True):
        if not isinstance(one, str):
            np.testing.assert_array_equal(one.image_HWC, other.image_HWC)
            np.testing.assert_array_equal(one.labels_HW, other.labels_HW)


def of_size(count: int) -> bytes:
    """Return so many bytes, or none that could be returned."""
    if count < 0:
        raise LookupError(f"nothing is of size {count}")
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return bytes(count)


LARGE = 5_000_000  # Many times what a pipe holds.


def test_results_of_any_size_come_in_order_and_again_after_some_were_left() -> None:
    sizes = [LARGE, 1, 2, LARGE + 1, 3, *range(4, 40)]
    with Readers(3) as readers:
        abandoned = readers.results(of_size, sizes)
        assert len(next(abandoned)) == LARGE
        abandoned.close()
        assert [len(each) for each in readers.results(of_size, sizes)] == sizes
        with pytest.raises(LookupError, match="nothing is of size -1"):
            list(readers.results(of_size, [1, -1, 2]))
        assert [len(each) for each in readers.results(of_size, [7])] == [7]


def test_one_that_is_killed_is_told_of_whatever_the_others_are_about() -> None:
    with Readers(2) as readers, pytest.raises(ReaderLostError):
        list(readers.results(of_size, [LARGE, 0, LARGE, LARGE, 1]))


def test_one_that_is_killed_in_the_middle_of_an_answer_is_told_of() -> None:
    """The pools of the standard library would wait for the rest of it."""
    with Readers(2) as readers:
        results = readers.results(of_size, [1, LARGE, LARGE, LARGE])
        next(results)
        time.sleep(0.5)  # They answer more than a pipe holds, and nobody reads it.
        for child in active_children():
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(ReaderLostError):
            list(results)
