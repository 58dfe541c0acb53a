"""`hdsweep data` as a user meets it: preparing, importing, verifying, showing, and using the result."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.command_line import hdsweep
from tests.documents import document

STUDY = """
title = "my own pair"
seeds = [0]
methods = ["scratch_adm", "supervised_ft"]
[sources.mine]
targets = ["{target}"]
[data]
image_size = 16
[networks.adm]
channels = 32
multipliers = [1, 1]
blocks_per_level = 1
attention_rates = []
head_channels = 32
[pretraining]
updates = 2
batch = 4
evaluate_every = 2
[fine_tuning]
train_images = 4
batch = 4
max_epochs = 1
"""


def write_pairs(root, count, *, shift=0):
    """Bright squares on noise, and where they are."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i in range(count):
        draw = np.random.default_rng([i, shift])
        image = draw.integers(0, 120, (24, 24, 3), dtype=np.uint8)
        mask = np.zeros((24, 24), np.uint8)
        top, left = draw.integers(2, 12, 2)
        mask[top : top + 9, left : left + 9] = 255
        image[mask > 0] += 100
        Image.fromarray(image).save(root / f"images/scan {i:02} ä.png")
        Image.fromarray(mask).save(root / f"masks/scan {i:02} ä_mask.png")
    (root / "classes.txt").write_text("background\nsquare\n")
    return [
        "--images",
        root / "images",
        "--masks",
        root / "masks",
        "--classes",
        root / "classes.txt",
    ]


@pytest.mark.slow
def test_ones_own_data_from_folders_to_a_table(tmp_path):
    home = tmp_path / "home"
    source = write_pairs(tmp_path / "source", 12)
    target = write_pairs(tmp_path / "target", 12, shift=1)
    (tmp_path / "train.txt").write_text("".join(f"scan {i:02} ä\n" for i in range(4)))
    hdsweep("data", "import", "mine", *source, "--image-size", 16, home=home)
    _, err = hdsweep(
        *("data", "import", "theirs", *target, "--train", tmp_path / "train.txt"),
        *("--image-size", 16),
        home=home,
    )
    assert "theirs: 12 images, 2 classes" in err
    out, _ = hdsweep("data", "verify", "theirs", "--image-size", 16, "--json", home=home)
    found = document(out)
    assert found["classes"][1]["name"] == "square"
    assert found["classes"][1]["pixels"] == pytest.approx(81 / 576, abs=0.03)
    hdsweep(
        *("data", "show", "theirs", "--image-size", 16, "--out", tmp_path / "sheet.png"), home=home
    )
    assert Image.open(tmp_path / "sheet.png").width > 600

    study = tmp_path / "study.toml"
    study.write_text(STUDY.format(target="theirs"))
    out, _ = hdsweep("run", study, "--json", "--workers", 1, home=home)
    summary = document(out)
    assert (summary["planned"], summary["finished"]) == (3, 3)
    split = json.loads(next(home.glob("artifacts/*/artifacts/split.json")).read_text())
    assert set(split["train"]) == {f"scan {i:02} ä" for i in range(4)}

    # A changed pixel is another dataset, and the plan says so.
    path = tmp_path / "target/images/scan 05 ä.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[:6, :6] = 255
    Image.fromarray(pixels).save(path)
    _, err = hdsweep("data", "prepare", "theirs", "--image-size", 16, home=home)
    assert "have changed since it was prepared; preparing it again" in err
    out, _ = hdsweep("plan", study, "--json", home=home)
    reasons = {r["label"]: r["reason"] for r in document(out)["runs"]}
    assert reasons["pretrain supervised mine"] == "reused"
    assert reasons["scratch_adm theirs seed 0"] == "changed: the images of its dataset"


def test_a_changed_pixel_changes_the_fingerprint_and_the_plan(tmp_path):
    home, folders = tmp_path / "home", {}
    for name in ("mine", "theirs"):
        folders[name] = write_pairs(tmp_path / name, 12)
        hdsweep("data", "import", name, *folders[name], "--image-size", 16, home=home)
    study = tmp_path / "study.toml"
    study.write_text(STUDY.format(target="theirs"))

    def state():
        listed, _ = hdsweep("data", "list", "--image-size", 16, "--json", home=home)
        planned, _ = hdsweep("plan", study, "--json", home=home)
        prints = {each["name"]: each["fingerprint"] for each in document(listed)["datasets"]}
        return prints["theirs"], {r["label"]: r["key"] for r in document(planned)["runs"]}

    before, keys = state()
    path = tmp_path / "theirs/images/scan 05 ä.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[:6, :6] = 255
    Image.fromarray(pixels).save(path)
    _, err = hdsweep("data", "import", "theirs", *folders["theirs"], "--image-size", 16, home=home)
    assert "`theirs`: the files it was read from have changed since it was prepared" in err
    after, new_keys = state()
    assert after != before
    changed = {label for label, key in keys.items() if new_keys[label] != key}
    assert changed == {"scratch_adm theirs seed 0", "supervised_ft theirs seed 0"}
    _, err = hdsweep("data", "prepare", "theirs", "--image-size", 16, home=home)
    assert "already prepared" in err
    _, err = hdsweep("data", "prepare", "theirs", "--image-size", 16, "--again", home=home)
    assert "images/s on" in err
    assert state() == (after, new_keys)


def test_a_study_with_a_dataset_that_nobody_imported_names_it(tmp_path):
    study = tmp_path / "study.toml"
    study.write_text(STUDY.format(target="theirs"))
    _, err = hdsweep("plan", study, home=tmp_path / "home", exit_code=2)
    assert "unknown dataset `mine`" in err


def test_every_bad_file_is_listed_and_can_be_skipped(tmp_path):
    told = write_pairs(tmp_path / "set", 8)
    (tmp_path / "set/images/scan 03 ä.png").write_text("text")
    (tmp_path / "set/masks/scan 05 ä_mask.png").unlink()
    command = ("data", "import", "mine", *told, "--image-size", 16)
    _, err = hdsweep(*command, home=tmp_path / "home", exit_code=2)
    assert "2 files cannot be used" in err
    assert "scan 03 ä.png: not a readable image" in err
    assert "scan 05 ä.png: has no mask" in err
    _, err = hdsweep(*command, "--skip-bad", home=tmp_path / "home")
    assert "mine: 6 images" in err
    assert err.count("skipped: ") == 2
    out, _ = hdsweep(
        "data", "verify", "mine", "--image-size", 16, home=tmp_path / "home", exit_code=1
    )
    assert "2 files were skipped" in " ".join(out.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--encoding", "hex"], "--encoding hex: must be one of auto, binary, ids"),
        (["--metric", "dice"], "--metric dice: must be one of auto, jaccard"),
        (["--classes", "nowhere.txt"], "nowhere.txt: not a readable text file"),
        (["--images", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_what_was_told_wrong_is_named(tmp_path, options, message):
    told = write_pairs(tmp_path / "set", 2)
    _, err = hdsweep("data", "import", "mine", *told, *options, home=tmp_path / "h", exit_code=2)
    assert message in err


def test_the_name_of_a_dataset_of_the_paper_is_taken(tmp_path):
    told = write_pairs(tmp_path / "set", 2)
    _, err = hdsweep("data", "import", "ph2", *told, home=tmp_path / "h", exit_code=2)
    assert "`ph2` is the name of a dataset of the paper" in err


def test_an_archive_is_prepared_and_says_how_fast(tmp_path, real_data):
    archive = tmp_path / "PH2Dataset.zip"
    folder = real_data / "ph2/PH2Dataset"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(folder.rglob("IMD[01]*")):
            if path.is_file():
                packed.write(path, path.relative_to(folder.parent))
    command = ("data", "prepare", "ph2", "--from", archive, "--image-size", 32)
    _, err = hdsweep(*command, home=tmp_path / "home", exit_code=2)
    assert f"{archive}: `ph2` has 200 labelled images" in err
    assert "--any-count takes them" in err
    _, err = hdsweep(*command, "--any-count", home=tmp_path / "home")
    assert "images/s on" in err
    _, err = hdsweep(*command, "--any-count", home=tmp_path / "home")
    assert "already prepared" in err


def test_what_is_not_prepared_or_not_known_says_so(tmp_path):
    home = tmp_path / "home"
    _, err = hdsweep("data", "show", "ph2", home=home, exit_code=2)
    assert "`ph2` is not prepared for 256 px" in err
    _, err = hdsweep("data", "verify", "ph3", home=home, exit_code=2)
    assert "did you mean `ph2`?" in err
    _, err = hdsweep("data", "prepare", "ph2", home=home, exit_code=2)
    assert "needs --from, its official download" in err
    assert not home.exists() or not list(home.glob("datasets/ph2*"))
