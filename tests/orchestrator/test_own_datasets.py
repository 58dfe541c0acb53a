"""`hdsweep data import` and `remove`: what is known afterwards, and what is left."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.command_line import hdsweep
from tests.documents import document


def write(root, levels=(0, 255), *, count=4, lines="a\nb\n", shift=0):
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i in range(count):
        inside = np.zeros((16, 16), np.uint8)
        inside[i : i + 6, 4 + shift : 12] = 1
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (16, 16, 3)).astype("u1")).save(
            root / f"images/{i}.png"
        )
        Image.fromarray(np.array(levels, np.uint8)[inside]).save(root / f"masks/{i}.png")
    (root / "classes.txt").write_text(lines)
    return root


def imported(root, home, *options, name="mine", exit_code=0):
    return hdsweep(
        *("data", "import", name, "--images", root / "images", "--masks", root / "masks"),
        *("--classes", root / "classes.txt", "--image-size", 16, "--workers", 1, *options),
        home=home,
        exit_code=exit_code,
    )


def names(home):
    out, _ = hdsweep("data", "list", "--image-size", 16, "--json", home=home)
    return {each["name"]: each["fingerprint"] for each in document(out)["datasets"]}


def left(home):
    return {path.name for path in (home / "datasets").iterdir()}


@pytest.mark.parametrize("spoiled", ["the coding", "a mask", "a class"])
def test_what_failed_is_not_known_and_leaves_nothing_but_what_was_read(tmp_path, spoiled):
    root, home = write(tmp_path / "set"), tmp_path / "home"
    if spoiled == "the coding":
        (root / "classes.txt").write_text("a\nb\nc\n")
    elif spoiled == "a mask":
        (root / "masks/2.png").write_text("text")
    else:
        (root / "classes.txt").write_text("a 0 0 0\nb 255 255 255\nc 255 0 0\n")
    imported(root, home, exit_code=2)
    assert "mine" not in names(home)
    assert left(home) <= {".mine-16.parts"}
    hdsweep("data", "prepare", "mine", home=home, exit_code=2)
    if left(home):
        hdsweep("data", "remove", "mine", home=home)
    assert left(home) == set()


def test_a_failed_import_leaves_the_dataset_that_had_the_name(tmp_path):
    root, home = write(tmp_path / "set"), tmp_path / "home"
    imported(root, home)
    before = names(home)["mine"]
    other = write(tmp_path / "other", (0, 90))
    imported(other, home, "--replace", exit_code=2)
    assert names(home)["mine"] == before


def test_other_files_take_a_name_only_when_told(tmp_path):
    home = tmp_path / "home"
    imported(write(tmp_path / "set"), home)
    before = names(home)["mine"]
    other = write(tmp_path / "other", count=5)
    _, err = imported(other, home, exit_code=2)
    assert f"`mine` is imported from {tmp_path}/set/images" in err
    assert "--replace" in err
    assert names(home)["mine"] == before
    imported(other, home, "--replace")
    assert names(home)["mine"] != before
    imported(other, home)  # From the same files it goes on.


def test_another_class_list_takes_a_name_only_when_told(tmp_path):
    root, home = write(tmp_path / "set"), tmp_path / "home"
    imported(root, home)
    (root / "classes.txt").write_text("a\nlung\n")
    _, err = imported(root, home, exit_code=2)
    assert "`mine` is imported with another class list (a, b)" in err
    assert "--replace" in err
    imported(root, home, "--replace")
    imported(root, home)


def test_bad_files_that_leave_too_few_to_train_on_are_told_when_importing(tmp_path):
    root, home = write(tmp_path / "set", count=6), tmp_path / "home"
    (tmp_path / "train.txt").write_text("0\n1\n")
    (root / "masks/1.png").write_text("text")
    told = ("--train", tmp_path / "train.txt", "--skip-bad")
    _, err = imported(root, home, *told, exit_code=2)
    assert "1 of 5 images to train on, which leaves 4; at least 2 to train on" in err
    assert "and 1 were skipped" in err
    assert "mine" not in names(home)


def test_what_was_imported_under_earlier_rules_is_told_of_until_it_is_imported_again(tmp_path):
    root, home = write(tmp_path / "set"), tmp_path / "home"
    imported(root, home)
    before = names(home)
    file = home / "datasets/mine.json"
    described = json.loads(file.read_text())
    del described["rules"]
    file.write_text(json.dumps(described))
    study = tmp_path / "study.toml"
    study.write_text(
        'title = "t"\nseeds = [0]\nmethods = ["scratch_adm"]\n[sources.mine]\ntargets = ["mine"]\n'
        "[data]\nimage_size = 16\n[networks.adm]\nmultipliers = [1, 1]\nattention_rates = []\n"
        "[fine_tuning]\ntrain_images = 2\n"
    )
    size = ("--image-size", 16)
    calls = {
        "list": ("data", "list", *size),
        "verify": ("data", "verify", "mine", *size),
        "plan": ("plan", study),
    }

    def told(name, *, doubted):
        out, err = hdsweep(
            *calls[name], home=home, exit_code=int(name == "verify" and doubted), COLUMNS="400"
        )
        return "imported under earlier rules" in out + err

    assert names(home) == before  # It is known all the same.
    assert all(told(name, doubted=True) for name in calls)
    _, err = imported(root, home)
    assert "images/s" in err  # Read again, not taken as it was.
    assert names(home) == before
    assert not any(told(name, doubted=False) for name in calls)


def test_a_home_in_an_object_store_forgets_and_replaces_too(tmp_path, bucket):
    home, root = bucket("group/home"), write(tmp_path / "set")
    size = ("--image-size", 16, "--workers", 1)

    def call(machine, *arguments, exit_code=0):
        cache = {"HDSWEEP_CACHE": str(tmp_path / machine)}
        return hdsweep(*arguments, "--home", home, exit_code=exit_code, **cache)

    def importing(root, *options, machine="one", exit_code=0):
        places = ("--images", root / "images", "--masks", root / "masks")
        told = (*places, "--classes", root / "classes.txt", *size, *options)
        return call(machine, "data", "import", "mine", *told, exit_code=exit_code)

    def seen(machine):
        out, _ = call(machine, "data", "list", "--image-size", 16, "--json")
        return {each["name"]: each["fingerprint"] for each in document(out)["datasets"]}

    def looked_into(machine):
        out, _ = call(machine, "data", "verify", "mine", "--image-size", 16, "--json")
        return document(out)["dataset"]["fingerprint"]

    importing(root)
    first = seen("one")["mine"]
    assert seen("two")["mine"] == looked_into("two") == first
    other = write(tmp_path / "other", shift=1)  # As large, so that no size tells.
    _, err = importing(other, exit_code=2)
    assert "--replace" in err
    importing(other, "--replace")
    second = seen("one")["mine"]
    assert second != first
    assert looked_into("two") == looked_into("three") == looked_into("one") == second
    call("two", "data", "remove", "mine")
    assert not {"mine"} & {*seen("one"), *seen("two"), *seen("four")}
    _, err = call("one", "data", "remove", "mine", exit_code=2)
    assert "unknown dataset `mine`" in err


def test_a_class_without_pixels_is_said_aloud_and_has_to_be_allowed(tmp_path):
    home = tmp_path / "home"
    root = write(tmp_path / "set", lines="a 0 0 0\nb 255 255 255\nc 255 0 0\n")
    _, err = imported(root, home, exit_code=2)
    assert "no pixel of `c` in any of 4 images at 16 px; --allow-empty-class" in err
    _, err = imported(root, home, "--allow-empty-class")
    assert "class `c` has no pixel in any image" in err
    command = ("data", "prepare", "mine", "--image-size", 16)
    _, err = hdsweep(*command, home=home, exit_code=2)
    assert "no pixel of `c`" in err
    hdsweep(*command, "--allow-empty-class", home=home)


def test_removed_is_what_was_prepared_and_known_and_nothing_else(tmp_path):
    home = tmp_path / "home"
    imported(write(tmp_path / "set"), home)
    imported(write(tmp_path / "other", count=5), home, name="mine_2")
    _, err = hdsweep("data", "remove", "mine", home=home)
    assert "removed mine-16, mine.json" in err
    assert left(home) == {"mine_2.json", "mine_2-16"}
    assert (tmp_path / "set/images/0.png").exists()
    _, err = hdsweep("data", "remove", "mine", home=home, exit_code=2)
    assert "unknown dataset `mine`" in err


def test_removing_what_is_not_prepared_says_so_and_not_that_its_name_is_wrong(tmp_path):
    _, err = hdsweep("data", "remove", "ph2", home=tmp_path, exit_code=2)
    assert "nothing of `ph2` is in the home folder" in err


@pytest.mark.parametrize("apart", [False, True])
def test_archives_are_imported_and_prepared_again_from_where_they_lie(tmp_path, apart):
    root, home = write(tmp_path / "set"), tmp_path / "home"
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted(root.rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path))
    imported(root, home, name="folders")
    images = root / "images" if apart else tmp_path / "set.zip/set/images"
    hdsweep(
        *("data", "import", "zipped", "--images", images, "--image-size", 16),
        *("--masks", tmp_path / "set.zip/set/masks", "--classes", root / "classes.txt"),
        home=home,
    )
    found = names(home)
    assert found["zipped"] == found["folders"]
    assert not [each for each in left(home) if "looked" in each or "unpacked" in each]
    _, err = hdsweep("data", "prepare", "zipped", "--image-size", 16, home=home)
    assert "already prepared" in err
    if apart:
        Image.new("RGB", (16, 16)).save(root / "images/0.png")
        _, err = hdsweep("data", "prepare", "zipped", "--image-size", 16, home=home)
        assert "have changed since it was prepared" in err


def test_the_preprocessing_of_x_rays_is_in_the_fingerprint_and_the_description(tmp_path):
    root, home = write(tmp_path / "set"), tmp_path / "home"
    imported(root, home)
    out, _ = imported(root, home, "--modality", "chest-xray", "--json", name="x_rays")
    assert document(out)["dataset"]["preprocessing"] == "equalised"
    found = names(home)
    assert found["mine"] != found["x_rays"]
