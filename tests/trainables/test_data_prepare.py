"""Preparing: once, whole or not at all, the same from any number of processes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data import prepare as prepare_module
from trainables.data.datasets import all_datasets
from trainables.data.errors import BadReleaseError, DatasetCountError, DatasetError
from trainables.data.files import reading as reading_module
from trainables.data.prepare import How, prepare
from trainables.data.prepared import find_prepared, folder_of
from trainables.data.store import ArrowDataset

DATA = all_datasets()


@pytest.fixture
def release(tmp_path):
    """A Shenzhen of 12 small X-rays with square lungs."""
    draw = np.random.default_rng(0)
    for i in range(12):
        name = f"CHNCXR_{i:04}_0"
        lungs = np.zeros((60, 50), np.uint8)
        lungs[20:40, 10 + i : 30 + i] = 255
        images, masks = tmp_path / "CXR_png", tmp_path / "mask"
        images.mkdir(exist_ok=True)
        masks.mkdir(exist_ok=True)
        levels = draw.integers(0, 4000, (60, 50)).astype(np.uint16)
        Image.fromarray(levels).save(images / f"{name}.png")
        Image.fromarray(lungs).save(masks / f"{name}_mask.png")
    return tmp_path


def prepare_shenzhen(release, home, **options):
    return prepare(
        DATA["shenzhen"], release, home, image_size=16, how=How(strict=False, **options)
    )


def test_a_source_that_is_cropped_is_stored_with_a_margin(release, tmp_path):
    prepared = prepare_shenzhen(release, tmp_path / "home")
    assert (prepared.stored_side, prepared.images) == (28, 12)
    assert (tmp_path / "home/datasets/shenzhen-28/data.arrow").exists()
    assert find_prepared(tmp_path / "home", DATA["shenzhen"], 16) == prepared


def test_pixels_are_grey_in_three_channels_and_labels_are_lungs(release, tmp_path):
    prepared = prepare_shenzhen(release, tmp_path / "home")
    folder = folder_of(tmp_path / "home", DATA["shenzhen"], 16)
    data = ArrowDataset.open(folder, fingerprint=prepared.fingerprint)
    images, labels = data.images(range(12)), data.labels(range(12))
    assert (images == images[..., :1]).all()
    # 20 x 20 of 60 x 50 pixels.
    assert labels.mean() == pytest.approx(400 / 3000, abs=0.02)


def test_any_number_of_processes_gives_the_same(release, tmp_path):
    seen = []
    alone = prepare_shenzhen(release, tmp_path / "a")
    shared = prepare_shenzhen(
        release, tmp_path / "b", workers=2, on_progress=lambda *counts: seen.append(counts)
    )
    assert alone == shared
    assert seen == [(i, 12) for i in range(1, 13)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_file_is_named_and_nothing_is_left(release, tmp_path, workers):
    path = release / "CXR_png" / "CHNCXR_0007_0.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BadReleaseError, match=r"1 file cannot.*\n.*CHNCXR_0007_0\.png"):
        prepare_shenzhen(release, tmp_path / "home", workers=workers)
    assert find_prepared(tmp_path / "home", DATA["shenzhen"], 16) is None
    left = {path.suffix for path in (tmp_path / "home/datasets").iterdir()}
    assert left == {".parts"}


def read_and_told(release, home, **options):
    """Prepare; return the fingerprint, how many images were read, and why they were read again."""
    read, told = [], []
    found = prepare_shenzhen(
        release,
        home,
        on_progress=lambda done, _: read.append(done),
        on_again=told.append,
        **options,
    )
    return found.fingerprint, len(read), told


def test_what_is_prepared_is_not_prepared_again_unless_told(release, tmp_path):
    first, read, told = read_and_told(release, tmp_path / "home")
    assert (read, told) == (12, [])
    assert read_and_told(release, tmp_path / "home") == (first, 0, [])
    assert read_and_told(release, tmp_path / "home", again=True) == (first, 12, [])


def test_changed_files_are_noticed_and_prepared_again(release, tmp_path):
    first, _, _ = read_and_told(release, tmp_path / "home")
    path = release / "mask/CHNCXR_0007_0_mask.png"
    lungs = np.asarray(Image.open(path)).copy()
    lungs[:30, :30] = 255
    Image.fromarray(lungs).save(path)
    changed, read, told = read_and_told(release, tmp_path / "home")
    assert (changed != first, read) == (True, 12)
    assert told == ["`shenzhen`: the files it was read from have changed since it was prepared"]
    (release / "mask/CHNCXR_0011_0_mask.png").unlink()  # Its X-ray then is none of the set.
    fewer, read, told = read_and_told(release, tmp_path / "home")
    assert (fewer not in (first, changed), read, len(told)) == (True, 11, 1)


def test_the_same_images_touched_are_read_again_and_are_the_same(release, tmp_path):
    first, _, _ = read_and_told(release, tmp_path / "home")
    (release / "CXR_png/CHNCXR_0003_0.png").touch()
    again, read, told = read_and_told(release, tmp_path / "home")
    assert (again, read, len(told)) == (first, 12, 1)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.unlink(), "missing or torn"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "missing or torn"),
        (lambda path: flip(path, 3000), r"data\.arrow: content changed since it was prepared"),
    ],
    ids=["deleted", "torn", "flipped"],
)
def test_a_spoilt_dataset_is_not_prepared_and_is_made_again(release, tmp_path, spoil, why):
    first, _, _ = read_and_told(release, tmp_path / "home")
    spoil(tmp_path / "home/datasets/shenzhen-28/data.arrow")
    again, read, (told,) = read_and_told(release, tmp_path / "home")
    assert (again, read) == (first, 12)
    assert re.search(why, told)
    assert read_and_told(release, tmp_path / "home") == (first, 0, [])


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def archived(release, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(release.glob("*/*.png")):
            archive.write(file, file.relative_to(release))
    return path


def test_an_archive_is_unpacked_again_only_if_it_changed(release, tmp_path):
    path = archived(release, tmp_path / "release.zip")
    first, read, _ = read_and_told(path, tmp_path / "home")
    assert read == 12
    assert read_and_told(path, tmp_path / "home") == (first, 0, [])
    Image.fromarray(np.full((60, 50), 255, np.uint8)).save(release / "mask/CHNCXR_0001_0_mask.png")
    archived(release, path)
    changed, read, told = read_and_told(path, tmp_path / "home")
    assert (changed != first, read, len(told)) == (True, 12, 1)


def test_from_an_archive_too_an_interruption_loses_little(release, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "PART", 4)
    path = archived(release, tmp_path / "release.zip")

    def interrupted(done, _):
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_shenzhen(path, tmp_path / "home", on_progress=interrupted)
    time.sleep(0.05)  # So that whatever is unpacked now is newer than what was before.
    read = []
    original = reading_module.read_sample
    monkeypatch.setattr(
        reading_module,
        "read_sample",
        lambda r, entry, s, **how: read.append(entry.id) or original(r, entry, s, **how),
    )
    resumed = prepare_shenzhen(path, tmp_path / "home")
    assert read == []  # All three parts were whole when the ninth image was passed on.
    assert resumed == prepare_shenzhen(path, tmp_path / "other")
    assert len(read) == 12


def expecting(count):
    return replace(DATA["shenzhen"], expected=count)


def test_skipping_bad_files_still_counts_what_was_found(release, tmp_path):
    (release / "CXR_png/CHNCXR_0003_0.png").write_bytes(b"")
    (release / "CXR_png/CHNCXR_0005_0.png").unlink()  # Its mask is left: one image is lost.
    for expected in (10, 13):
        with pytest.raises(
            DatasetCountError, match=f"has {expected} labelled images, 12 are here, 1 of them"
        ):
            prepare(
                *(expecting(expected), release, tmp_path / "home"),
                image_size=16,
                how=How(skip_bad=True),
            )
    # Eleven are complete: if that is the release, the mask that stands alone is a stray file.
    stray = prepare(
        expecting(11), release, tmp_path / "other", image_size=16, how=How(skip_bad=True)
    )
    assert stray.images == 10
    whole = (expecting(12), release, tmp_path / "home")
    found = prepare(*whole, image_size=16, how=How(skip_bad=True))
    assert (found.images, len(found.skipped), found.found) == (10, 2, 12)
    # It is the whole as long as bad files may be skipped.
    assert prepare(*whole, image_size=16, how=How(skip_bad=True)) == found
    with pytest.raises(BadReleaseError, match="2 files cannot be used"):
        prepare(*whole, image_size=16)


def test_a_link_that_leads_nowhere_is_a_bad_file_like_any_other(release, tmp_path):
    path = release / "CXR_png/CHNCXR_0003_0.png"
    path.unlink()
    path.symlink_to(tmp_path / "gone.png")
    with pytest.raises(
        BadReleaseError, match=r"CHNCXR_0003_0\.png: not a readable image: .*No such"
    ):
        prepare_shenzhen(release, tmp_path / "home")


def test_what_macos_leaves_beside_files_is_no_file_of_the_release(release, tmp_path):
    (release / "mask/._CHNCXR_0003_0_mask.png").write_bytes(b"\0\5\x16\7")
    nih = tmp_path / "NIH"
    for name in ("a", "._a"):
        for folder, end in (("images", ""), ("masks", "_mask")):
            (nih / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(release / "mask/CHNCXR_0000_0_mask.png", nih / folder / f"{name}{end}.png")
    assert [entry.id for entry in DATA["nih"].find(nih).entries] == ["a"]
    assert prepare_shenzhen(release, tmp_path / "home").images == 12


def test_more_problems_than_a_message_holds_are_all_in_a_file(release, tmp_path):
    for i in range(150):
        (release / f"mask/CHNCXR_{1000 + i}_0_mask.png").touch()
    with pytest.raises(BadReleaseError) as caught:
        prepare_shenzhen(release, tmp_path / "home")
    listing = tmp_path / "home/datasets/shenzhen-28.problems.txt"
    assert f"and 50 more; all of them are in {listing}" in str(caught.value)
    assert listing.read_text().splitlines() == list(caught.value.problems)
    assert len(caught.value.problems) == 150
    prepare_shenzhen(release, tmp_path / "home", skip_bad=True)
    assert not listing.exists()


SLOW_READER = """
import os, sys, time
from dataclasses import replace
from pathlib import Path
from trainables.data.datasets import all_datasets
from trainables.data.releases.lungs import read_lungs
from trainables.data.prepare import How, prepare

def read(entry):
    (Path({folder!r}) / f"reader-{{os.getpid()}}").touch()
    time.sleep({seconds})
    return read_lungs(entry)

if __name__ == "__main__":
    info = replace(all_datasets()["shenzhen"], read=read)
    try:
        prepare(info, Path({release!r}), Path({folder!r}) / "home", image_size=16,
                how=How(strict=False, workers=2))
    except ValueError as error:
        sys.exit(str(error))
"""


@pytest.fixture
def slow(release, tmp_path):
    """A preparation by two processes that are slow: the running program, and their ids."""
    script = tmp_path / "slow.py"
    script.write_text(SLOW_READER.format(folder=str(tmp_path), release=str(release), seconds=2))
    with subprocess.Popen(
        [sys.executable, str(script)], stderr=subprocess.PIPE, text=True
    ) as running:
        wait_until(lambda: len(list(tmp_path.glob("reader-*"))) == 2)
        yield running, [int(path.name[7:]) for path in tmp_path.glob("reader-*")]
        running.kill()


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_readers_end_with_the_process_that_started_them(slow, number):
    running, readers = slow
    assert all(map(alive, readers))
    running.send_signal(number)
    assert running.wait(timeout=30) == -number
    wait_until(lambda: not any(map(alive, readers)), seconds=20)


def test_a_reader_that_is_killed_is_told_in_a_line(slow):
    running, (reader, _) = slow
    os.kill(reader, signal.SIGKILL)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 1
    assert re.fullmatch(r".*CHNCXR_00\d\d_0\.png: a process that read this or one of .*\n", err)
    assert "probably for lack of memory" in err


def test_a_release_of_another_size_is_refused_unless_told(release, tmp_path):
    with pytest.raises(DatasetCountError, match="566 labelled images, 12 are here"):
        prepare(DATA["shenzhen"], release, tmp_path / "home", image_size=16)


def test_a_part_prepared_leniently_does_not_pass_for_the_whole(release, tmp_path):
    prepare_shenzhen(release, tmp_path / "home")
    with pytest.raises(DatasetCountError):
        prepare(DATA["shenzhen"], release, tmp_path / "home", image_size=16)


@pytest.mark.parametrize(
    ("name", "source", "images", "message"),
    [
        ("shenzhen", "nowhere", None, "nowhere: no such folder or archive"),
        ("shenzhen", None, None, "name the folder of the release, from https://"),
        ("ph2-like", None, 0, "cannot make 0 images"),
        ("shenzhen", ".", 10, "cannot make 10 images"),
    ],
)
def test_what_cannot_be_prepared_says_why(tmp_path, name, source, images, message):
    with pytest.raises(DatasetError, match=message):
        prepare(DATA[name], source and tmp_path / source, tmp_path, image_size=16, images=images)


def test_another_number_of_generated_images_replaces_the_first(tmp_path):
    few, more, again = (
        prepare(DATA["ph2-like"], None, tmp_path, image_size=16, images=images)
        for images in (3, 5, 5)
    )
    assert (few.images, more.images) == (3, 5)
    assert more == again == find_prepared(tmp_path, DATA["ph2-like"], 16)


def test_generated_data_is_marked_as_such(tmp_path):
    prepared = prepare(DATA["ph2-like"], None, tmp_path, image_size=16, images=3)
    assert prepared.generated
    assert prepared.terms.startswith("drawn by a program")


def test_a_side_on_which_nothing_can_be_drawn_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 16 pixels, got 8"):
        prepare(DATA["ph2-like"], None, tmp_path, image_size=8, images=3)
