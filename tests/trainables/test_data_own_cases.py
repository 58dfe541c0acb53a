"""Forms in which people have masks, each with the labels that it means, or why it is refused."""

import os
import re
import unicodedata

import numpy as np
import pytest
from PIL import Image

from tests.unprivileged import unprivileged
from trainables.data.errors import BadImageError, DatasetError, DatasetLayoutError
from trainables.data.info import IGNORED
from trainables.data.own.describe import FIRST, describe, look_at
from trainables.data.own.imported import info_of
from trainables.data.own.reading import read_pair
from trainables.data.own.said import Said

SIDE = 8
SQUARE = np.zeros((SIDE, SIDE), np.uint8)
SQUARE[2:6, 2:6] = 1  # A quarter of the pixels.


def grey(*levels):
    """Return the square in other levels: outside, inside."""
    return Image.fromarray(np.array(levels, np.uint8)[SQUARE])


def palette(colours, indices=SQUARE):
    image = Image.fromarray(indices.astype(np.uint8), mode="P")
    image.putpalette([value for colour in colours for value in colour])
    return image


def with_alpha(image, inside, outside):
    """Return an image with the opacity of the square and of what is around it."""
    opacity = Image.fromarray(np.array([outside, inside], np.uint8)[SQUARE])
    return Image.merge(f"{image.mode}A", (*image.split(), opacity))


def own(root, masks, lines="a\nb", *, form="png", **said):
    """Write masks, all of the square unless told, beside images; return the description."""
    for i, mask in enumerate(masks):
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "masks").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIDE, SIDE), (10 * i % 255, 20, 30)).save(root / f"images/{i:03}.png")
        if isinstance(mask, np.ndarray):
            np.save(root / f"masks/{i:03}.npy", mask)
        else:
            mask.save(root / f"masks/{i:03}.{form}")
    (root / "classes.txt").write_text(lines)
    return describe("mine", root / "images", root / "masks", root / "classes.txt", **said)


def labels_of(dataset):
    return [read_pair(dataset, entry)[1] for entry in info_of(dataset).find(None).entries]


BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)
PAPER = "paper 255 255 255\nink 0 0 0"
GREYS = "a 0 0 0\nb 255 255 255\nc 128 128 128"

READ = {
    "listed black and white, grey": ([grey(255, 0)], PAPER, {}, SQUARE),
    "listed black and white, one bit": ([grey(255, 0).convert("1")], PAPER, {}, SQUARE),
    "listed black and white, grey and opacity": (
        [with_alpha(grey(255, 0), 255, 255)],
        PAPER,
        {},
        SQUARE,
    ),
    "listed black and white, colour": ([grey(255, 0).convert("RGB")], PAPER, {}, SQUARE),
    "listed black and white, palette": ([grey(255, 0).quantize(2)], PAPER, {}, SQUARE),
    "listed black and white, deep": (
        [Image.fromarray(np.where(SQUARE, 0, 65535).astype(np.uint16))],
        PAPER,
        {},
        SQUARE,
    ),
    "three listed greys": ([grey(0, 128)], GREYS, {}, 2 * SQUARE),
    "a listed colour that is absent": (
        [grey(0, 255)],
        "a 0 0 0\nb 255 255 255\nc 255 0 0",
        {},
        SQUARE,
    ),
    "palette of 0 and 255": ([grey(0, 255).convert("P")], "a\nb", {}, SQUARE),
    "white first, index said": (
        [grey(255, 0).quantize(2)],
        "a\nb",
        {"encoding": "palette"},
        np.asarray(grey(255, 0).quantize(2)),
    ),
    "white first, white said": (
        [grey(255, 0).quantize(2)],
        "a\nb",
        {"encoding": "binary"},
        1 - SQUARE,
    ),
    "index that is not the level, level said": (
        [palette([(1, 1, 1), (0, 0, 0)])],
        "a\nb\nc",
        {"encoding": "levels"},
        1 - SQUARE,
    ),
    "255 is a class": ([grey(0, 255)], "0 a\n7 b\n255 c", {}, 2 * SQUARE),
    "255 is ignored": ([grey(0, 255)], "a\nb\nc", {"ignore": ("255",)}, IGNORED * SQUARE),
    "classes from 1": ([grey(1, 2)], "1 a\n2 b", {}, SQUARE),
    "classes with gaps": ([grey(0, 11)], "0 a\n7 b\n11 c", {}, 2 * SQUARE),
    "a number above 255": (
        [Image.fromarray(np.where(SQUARE, 1001, 0).astype(np.uint16))],
        "0 a\n1001 b",
        {},
        SQUARE,
    ),
    "void": ([grey(0, 11)], "a\nb\nc", {"ignore": ("11",)}, IGNORED * SQUARE),
    "void colour": ([palette([BLACK, RED])], PAPER, {"ignore": ("255,0,0",)}, 1 + 254 * SQUARE),
    "-1 in arrays": ([np.where(SQUARE, -1, 2)], "a\nb\nc", {}, 2 + 253 * SQUARE),
    "yes and no": ([SQUARE.astype(bool)], "a\nb", {}, SQUARE),
    "transparent background": (
        [with_alpha(grey(255, 255).convert("RGB"), 255, 0)],
        "a 0 0 0\nb 255 255 255",
        {"transparent": "a"},
        SQUARE,
    ),
    "transparent is ignored": (
        [with_alpha(grey(0, 1), 0, 255)],
        "a\nb",
        {"transparent": "ignored"},
        IGNORED * SQUARE,
    ),
}


@pytest.mark.parametrize("case", READ)
def test_what_masks_mean(tmp_path, case):
    masks, lines, said, expected = READ[case]
    (labels,) = labels_of(own(tmp_path, masks, lines, **said))
    np.testing.assert_array_equal(labels, expected)


REFUSED = {
    "white first": ([grey(255, 0).quantize(2)], "a\nb", {}, "name one with --encoding"),
    "0 and 255 of three classes": ([grey(0, 255)], "a\nb\nc", {}, "--ignore 255"),
    "one bit of three classes": ([grey(0, 255).convert("1")], "a\nb\nc", {}, "--encoding"),
    "palette of 0 and 255, three classes": (
        [grey(0, 255).convert("P")],
        "a\nb\nc",
        {},
        "--ignore 255",
    ),
    "palettes that differ": (
        [palette([BLACK, RED]), palette([BLACK, (0, 255, 0)])],
        "a\nb\nc",
        {},
        "index 1 is .*colours in the class list",
    ),
    "black that is not the first": ([palette([RED, BLACK])], "a\nb", {}, "black is index 1"),
    "index or level": (
        [palette([(1, 1, 1), (0, 0, 0)])],
        "a\nb\nc",
        {},
        "can be .*palette.*levels.*name one",
    ),
    "transparent": ([with_alpha(grey(0, 1), 255, 0)], "a\nb", {}, "--transparent"),
    "half transparent": (
        [with_alpha(grey(0, 1), 255, 90)],
        "a\nb",
        {"transparent": "a"},
        "half-transparent",
    ),
    "index 0 transparent": (
        [palette([BLACK, RED])],
        "a\nb",
        {"clear": 0},
        "--transparent",
    ),
    "an array and colours": ([SQUARE], PAPER, {}, "arrays hold numbers and no colours"),
    "colours that are not used": ([grey(0, 1)], PAPER, {"encoding": "ids"}, "would not use"),
    "a listed class that is ignored": ([grey(0, 1)], "a\nb", {"ignore": ("1",)}, "class `b`"),
    "grey and opacity of two levels": (
        [with_alpha(grey(0, 90), 255, 255)],
        "a\nb",
        {},
        "level 90 in a mask of two classes",
    ),
    "binary of three classes": ([grey(0, 255)], "a\nb\nc", {"encoding": "binary"}, "3 classes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_may_mean_two_things_is_refused_with_what_would_settle_it(tmp_path, case):
    masks, lines, said, message = REFUSED[case]
    said = dict(said)
    if "clear" in said:
        masks[0].info["transparency"] = said.pop("clear")
    with pytest.raises(DatasetError, match=message):
        labels_of(own(tmp_path, masks, lines, **said))


def test_a_colour_outside_of_the_list_is_named_with_its_place(tmp_path):
    dataset = own(tmp_path, [grey(0, 255)], "a 0 0 0\nb 255 0 0")
    message = r"colour \(255, 255, 255\) at column 2, row 2 is no class \(16 such pixels"
    with pytest.raises(BadImageError, match=message):
        labels_of(dataset)


def looked_at(root, *, every=False, images=None, masks=None):
    said = Said(root / "classes.txt")
    places = (images or root / "images", masks or root / "masks", said)
    return look_at("mine", *places, every=every, unpack_beside=root / "unpacked")


def test_one_mask_of_another_coding_among_many_is_noticed_though_few_are_looked_at_first(tmp_path):
    masks = [grey(0, 1)] * (FIRST + 40)
    masks[2] = grey(0, 255)
    own(tmp_path, masks, encoding="ids")
    first = looked_at(tmp_path)
    assert (first.dataset.encoding, first.every) == ("ids", False)
    with pytest.raises(BadImageError, match=r"002\.png: has 255 and no class but the first"):
        labels_of(first.dataset)
    with pytest.raises(DatasetError, match=r"0 and 1, .*002\.png 0 and 255: name what all"):
        looked_at(tmp_path, every=True)


def test_what_the_others_settle_is_settled_when_all_are_looked_at(tmp_path):
    masks = [grey(0, 0)] * (FIRST + 40)
    masks[2] = grey(0, 255)
    own(tmp_path, masks, encoding="ids")
    every = looked_at(tmp_path, every=True).dataset
    assert every.encoding == "binary"
    np.testing.assert_array_equal(labels_of(every)[2], SQUARE)
    with pytest.raises(BadImageError, match=r"002\.png: can be read as ids or levels or binary"):
        labels_of(looked_at(tmp_path).dataset)


def test_jpeg_masks_are_read_by_a_threshold_and_what_is_between_is_told(tmp_path):
    inside = np.clip((20 - np.hypot(*np.mgrid[-32:32, -32:32])) / 4 + 0.5, 0, 1)
    disc = (255 * inside).astype(np.uint8)
    for i in range(3):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.new("L", (64, 64)).save(tmp_path / f"images/{i}.png")
        Image.fromarray(disc).save(tmp_path / f"masks/{i}.jpg", quality=60)
    (tmp_path / "classes.txt").write_text("a\nb")
    found = looked_at(tmp_path)
    levels = np.asarray(Image.open(tmp_path / "masks/0.jpg"))
    between = 3 * int(((levels >= 64) & (levels <= 191)).sum())
    assert between > 0
    assert any(
        f" {between} of {3 * 64 * 64} pixels are in between" in note for note in found.notes
    )
    np.testing.assert_array_equal(labels_of(found.dataset)[0], levels > 127)


@pytest.mark.parametrize("levels", [(0, 1), (0, 100), (100, 200)])
def test_jpeg_masks_that_are_not_black_and_white_are_refused(tmp_path, levels):
    big = Image.fromarray(np.kron(np.asarray(grey(*levels)), np.ones((8, 8), np.uint8)))
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    Image.new("L", (64, 64)).save(tmp_path / "images/0.png")
    big.save(tmp_path / "masks/0.jpg", quality=95)
    (tmp_path / "classes.txt").write_text("a\nb")
    with pytest.raises(DatasetError, match="black and white|between black"):
        looked_at(tmp_path)


def test_lossy_webp_is_no_mask_of_labels(tmp_path):
    dataset = own(tmp_path, [grey(0, 1)], form="png")
    assert dataset.encoding == "ids"
    (tmp_path / "masks/000.png").unlink()
    grey(0, 1).convert("RGB").save(tmp_path / "masks/000.webp", quality=80)
    with pytest.raises(DatasetError, match="lossy|black and white"):
        labels_of(
            describe("mine", tmp_path / "images", tmp_path / "masks", tmp_path / "classes.txt")
        )


@pytest.mark.parametrize("form", ["tif", "gif", "webp", "png"])
def test_a_file_of_several_images_is_no_mask(tmp_path, form):
    own(tmp_path, [grey(0, 1)])
    (tmp_path / "masks/000.png").unlink()
    grey(0, 255).save(
        tmp_path / f"masks/000.{form}", save_all=True, append_images=[grey(255, 0), grey(0, 90)]
    )
    with pytest.raises(DatasetError, match="holds 3 images; save each in a file of its own"):
        looked_at(tmp_path)


def put(path, image=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or grey(0, 255)).save(path)


def paired(root, images="images", masks="masks", lines="a\nb", **said):
    (root / "classes.txt").write_text(lines)
    dataset = describe("mine", root / images, root / masks, root / "classes.txt", **said)
    found = info_of(dataset).find(None)
    return (
        dataset,
        {e.id: [str(m.relative_to(root)) for m in e.masks] for e in found.entries},
        found,
    )


PAIRS = {
    "contours beside images": (
        ["set/1_orig.jpg", "set/1_contour.png"],
        ("set/{id}_orig.jpg", "set/{id}_contour.png"),
        {"1": ["set/1_contour.png"]},
    ),
    "a pattern without folder is beside the images": (
        ["set/1.jpg", "set/1_contour.png"],
        ("set", "{id}_contour.png"),
        {"1": ["set/1_contour.png"]},
    ),
    "DRIVE": (
        ["images/21_training.tif", "1st_manual/21_manual1.gif"],
        ("images", "1st_manual"),
        {"21_training": ["1st_manual/21_manual1.gif"]},
    ),
    "CHASE": (
        ["set/Image_01L.jpg", "set/Image_01L_1stHO.png"],
        ("set", "set"),
        {"Image_01L": ["set/Image_01L_1stHO.png"]},
    ),
    "masks in a folder below the images": (
        ["set/1.png", "set/masks/1.png"],
        ("set", "set/masks"),
        {"1": ["set/masks/1.png"]},
    ),
    "masks in subfolders that images have not": (
        ["images/1.png", "images/2.png", "masks/x/1_mask.png", "masks/y/2_mask.png"],
        ("images", "masks"),
        {"1": ["masks/x/1_mask.png"], "2": ["masks/y/2_mask.png"]},
    ),
    "one mask per instance": (
        ["s/1/images/1.png", "s/1/masks/a.png", "s/1/masks/b.png"],
        ("s/{id}/images/*.png", "s/{id}/masks/*.png"),
        {"1": ["s/1/masks/a.png", "s/1/masks/b.png"]},
    ),
}


@pytest.mark.parametrize("case", PAIRS)
def test_which_mask_belongs_to_which_image(tmp_path, case):
    files, (images, masks), expected = PAIRS[case]
    for name in files:
        put(tmp_path / name)
    if masks.startswith("{"):
        (tmp_path / "classes.txt").write_text("a\nb")
        dataset = describe("mine", tmp_path / images, masks, tmp_path / "classes.txt")
        found = info_of(dataset).find(None)
        pairs = {e.id: [str(m.relative_to(tmp_path)) for m in e.masks] for e in found.entries}
    else:
        _, pairs, found = paired(tmp_path, images, masks)
    assert pairs == expected
    assert not found.problems


def test_masks_of_instances_are_united(tmp_path):
    left, right = SQUARE.copy(), SQUARE.copy()
    left[:, 4:], right[:, :4] = 0, 0
    put(tmp_path / "images/1.png", Image.new("RGB", (SIDE, SIDE)))
    put(tmp_path / "masks/1_x.png", Image.fromarray(left * 255))
    put(tmp_path / "masks/1_y.png", Image.fromarray(right * 255))
    dataset, _, _ = paired(tmp_path, masks="masks/{id}_*.png")
    np.testing.assert_array_equal(labels_of(dataset)[0], SQUARE)


def test_masks_of_parts_are_painted_in_the_order_of_the_class_list(tmp_path):
    put(tmp_path / "images/1_l.png", Image.new("RGB", (SIDE, SIDE)))
    put(tmp_path / "masks/1_l_eye.png", grey(255, 255))
    put(tmp_path / "masks/1_l_left_eye.png", grey(0, 255))
    lines = "background\neye\nleft eye"
    dataset, pairs, _ = paired(tmp_path, masks="masks/{id}_{class}.png", lines=lines)
    assert len(pairs["1_l"]) == 2
    np.testing.assert_array_equal(labels_of(dataset)[0], 1 + SQUARE)


def pairs(root, images=("0",), masks=("0",)):
    for folder, names in (("images", images), ("masks", masks)):
        (root / folder).mkdir(parents=True)
        for i, name in enumerate(names):
            image = (
                Image.new("RGB", (SIDE, SIDE), (i, 0, 0)) if folder == "images" else grey(0, 255)
            )
            image.save(root / folder / f"{name}.png")
    (root / "classes.txt").write_text("a\nb")


HUEFT = [unicodedata.normalize(form, "hüft") for form in ("NFC", "NFD")]


def test_names_of_letters_that_are_composed_or_not_are_the_same(tmp_path):
    pairs(tmp_path / "one", HUEFT[:1], HUEFT[1:])
    assert looked_at(tmp_path / "one").dataset.expected == 1
    pairs(tmp_path / "both", HUEFT, HUEFT[1:])
    with pytest.raises(DatasetError, match="is another file than .*, and only one can be"):
        looked_at(tmp_path / "both")


def test_names_that_differ_in_capital_letters_only_are_two_names_and_this_is_said(tmp_path):
    pairs(tmp_path / "two", ("Aa", "aa"), ("Aa", "aa"))
    assert looked_at(tmp_path / "two").dataset.expected == 2
    pairs(tmp_path / "none", ("IMG_1",), ("img_1",))
    with pytest.raises(DatasetError, match=r"IMG_1\.png and img_1\.png differ in capital letters"):
        looked_at(tmp_path / "none")


def test_masks_of_a_second_annotator_are_told_with_the_pattern_that_takes_them(tmp_path):
    for i in range(3):
        Image.new("RGB", (SIDE, SIDE), (i, 0, 0)).save(tmp_path / f"Image_{i}L.jpg")
        grey(0, 255).save(tmp_path / f"Image_{i}L_1stHO.png")
        grey(255, 0).save(tmp_path / f"Image_{i}L_2ndHO.png")
    (tmp_path / "classes.txt").write_text("a\nb")
    first, *_ = looked_at(tmp_path, images=tmp_path, masks=tmp_path).found.problems
    assert "Image_0L_2ndHO.png: has no mask, and may be another one of `Image_0L`" in first
    told = re.search(r"--images '(.*)' --masks '(.*)'$", first)
    dataset = looked_at(tmp_path, images=told[1], masks=told[2]).dataset
    assert dataset.expected == 3
    np.testing.assert_array_equal(labels_of(dataset)[0], 1 - SQUARE)


def test_a_folder_of_folders_names_them_and_a_way_up_and_down_is_none(tmp_path):
    pairs(tmp_path)
    with pytest.raises(DatasetError, match="its folders with files are images, masks, name two"):
        looked_at(tmp_path, images=tmp_path, masks=tmp_path)
    round_about = tmp_path / "masks/../images"
    assert looked_at(tmp_path, images=round_about).dataset == looked_at(tmp_path).dataset


@pytest.mark.parametrize("empty", ["images", "masks"])
def test_an_empty_folder_is_said_to_be_empty(tmp_path, empty):
    pairs(tmp_path)
    (tmp_path / empty / "0.png").unlink()
    with pytest.raises(DatasetError, match=rf"{empty}: holds no file; \.png"):
        looked_at(tmp_path)


def test_links_that_lead_round_in_circles_and_pipes_are_no_files(tmp_path):
    pairs(tmp_path, ("0", "1"), ("0", "1"))
    (tmp_path / "masks/round").symlink_to(tmp_path / "masks")
    (tmp_path / "images/up").symlink_to("..")
    (tmp_path / "masks/1.png").unlink()
    os.mkfifo(tmp_path / "masks/1.png")  # Opened, it would wait for ever.
    for name in ("._0.png", ".DS_Store", "Thumbs.db"):
        (tmp_path / "images" / name).write_bytes(b"no image")
    found = looked_at(tmp_path).found
    assert [entry.id for entry in found.entries] == ["0"]
    assert found.problems == (f"{tmp_path}/images/1.png: has no mask",)


def test_folders_that_cannot_be_looked_into_are_named(tmp_path):
    pairs(tmp_path)
    (tmp_path / "images/more").mkdir(mode=0)
    with (
        unprivileged(),
        pytest.raises(DatasetError, match="images/more: cannot be read: Permission"),
    ):
        looked_at(tmp_path)


def test_ids_may_have_any_characters_in_them_and_in_lists_of_them(tmp_path):
    ids = ("a b", "a,b", 'a"b', "a'b", "#x", "ä{id}", "a*b", "a%20b", "a;b")
    pairs(tmp_path, ids, ids)
    (tmp_path / "train.txt").write_text("# a comment\n#x\na,b\n a b \n")
    said = Said(tmp_path / "classes.txt", train=tmp_path / "train.txt")
    places = (tmp_path / "images", tmp_path / "masks", said)
    found = look_at("mine", *places, every=False, unpack_beside=tmp_path / "unpacked")
    assert found.dataset.train == ("#x", "a b", "a,b")
    assert {entry.id for entry in found.found.entries} == set(ids)


@pytest.mark.parametrize("order", ["a 0 0 0\nb 255 255 255", "a 255 255 255\nb 0 0 0"])
@pytest.mark.parametrize("form", ["jpg", "png"])
def test_jpeg_masks_heed_listed_black_and_white_as_png_masks_do(tmp_path, order, form):
    large = np.kron(SQUARE, np.ones((8, 8), np.uint8))
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for i, kind in enumerate(("jpg", form)):
        Image.new("L", (64, 64)).save(tmp_path / f"images/{i}.png")
        Image.fromarray(255 * large).save(tmp_path / f"masks/{i}.{kind}")
    (tmp_path / "classes.txt").write_text(order)
    for labels_HW in labels_of(looked_at(tmp_path).dataset):
        np.testing.assert_array_equal(labels_HW, 1 - large if order.startswith("a 255") else large)


def test_masks_of_classes_that_are_not_listed_are_told(tmp_path):
    pairs(tmp_path, ("0", "1"), ("0_b", "1_b", "0_left_eye", "1_hair", "9_hair", "note"))
    found = looked_at(tmp_path, masks=tmp_path / "masks/{id}_{class}.png")
    assert found.notes[-1] == (
        "2 masks are of no class of the list and unused, such as 0_left_eye.png"
    )
    (tmp_path / "classes.txt").write_text("a\nb\nhair\nleft eye")
    assert len(looked_at(tmp_path, masks=tmp_path / "masks/{id}_{class}.png").notes) == 1


def test_two_masks_of_one_image_are_refused_with_both_names(tmp_path):
    put(tmp_path / "images/1.png", Image.new("RGB", (SIDE, SIDE)))
    put(tmp_path / "images/2.png", Image.new("RGB", (SIDE, SIDE)))
    put(tmp_path / "masks/2.png")
    put(tmp_path / "masks/1_mask.png", grey(0, 255))
    put(tmp_path / "masks/1_gt.png", grey(255, 0))
    _, pairs, found = paired(tmp_path)
    assert list(pairs) == ["2"]
    assert len(found.problems) == 1
    assert "1_gt.png" in found.problems[0]
    assert "1_mask.png" in found.problems[0]


@pytest.mark.parametrize(
    ("pattern", "mask"), [("{id}_*.png", "a_b_1.png"), ("*_{id}.png", "1_b_a.png")]
)
def test_a_mask_that_may_be_of_two_images_is_refused_with_both(tmp_path, pattern, mask):
    images = ("a", "a_b", "b_a") if pattern.startswith("{") else ("a", "b_a")
    for name in images:
        put(tmp_path / f"images/{name}.png", Image.new("RGB", (SIDE, SIDE)))
    put(tmp_path / f"masks/{mask}")
    put(tmp_path / f"masks/{pattern.replace('{id}', 'a').replace('*', '9')}")
    _, pairs, found = paired(tmp_path, masks=f"masks/{pattern}")
    assert list(pairs) == ["a"]
    both = "a or a_b" if pattern.startswith("{") else "a or b_a"
    assert any(f"{mask}: may be {both}" in each for each in found.problems)


def test_a_mask_belongs_to_the_one_image_whose_id_fits(tmp_path):
    for name in ("a", "b"):
        put(tmp_path / f"images/{name}.png", Image.new("RGB", (SIDE, SIDE)))
        put(tmp_path / f"masks/{name}_left_1.png")
    _, pairs, found = paired(tmp_path, masks="masks/{id}_*.png")
    assert list(pairs) == ["a", "b"]
    assert not found.problems


def test_folders_one_level_too_deep_point_up(tmp_path):
    for part in ("train", "val"):
        put(tmp_path / f"images/{part}/{part}.png", Image.new("RGB", (SIDE, SIDE)))
        put(tmp_path / f"masks/{part}/{part}.png")
    with pytest.raises(
        DatasetLayoutError, match=rf"--images {tmp_path}/images and --masks .*masks"
    ):
        paired(tmp_path, images="images/train")


def test_masks_of_another_size_need_to_be_allowed_and_of_one_shape(tmp_path):
    put(tmp_path / "images/1.png", Image.new("RGB", (2 * SIDE, 2 * SIDE)))
    put(tmp_path / "masks/1.png")
    dataset, _, _ = paired(tmp_path)
    with pytest.raises(BadImageError, match="mask of 8x8 for an image of 16x16"):
        labels_of(dataset)
    dataset, _, _ = paired(tmp_path, any_mask_size=True)
    np.testing.assert_array_equal(labels_of(dataset)[0], SQUARE)
    put(tmp_path / "images/1.png", Image.new("RGB", (3 * SIDE, SIDE)))
    with pytest.raises(BadImageError, match="mask of 8x8"):
        labels_of(dataset)


def test_own_x_rays_are_equalised_as_the_official_ones_are(tmp_path):
    from trainables.data.releases.lungs import read_lungs

    draw = np.random.default_rng(0)
    for i in range(2):
        put(
            tmp_path / f"images/{i}.png",
            Image.fromarray(draw.integers(0, 4000, (8, 8)).astype("u2")),
        )
        put(tmp_path / f"masks/{i}.png")
    dataset, _, found = paired(tmp_path, modality="chest-xray")
    assert dataset.white is None
    assert info_of(dataset).preprocessing == "equalised"
    for ours, official in zip(
        read_pair(dataset, found.entries[0]), read_lungs(found.entries[0]), strict=True
    ):
        np.testing.assert_array_equal(ours, official)
    plain, _, _ = paired(tmp_path)
    assert info_of(plain).preprocessing == "none"
    assert info_of(plain).version != info_of(dataset).version


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 a\nb\n", "1 of 2 classes have an id"),
        ("0 a\n0 b\n", "the id 0 is there twice"),
        ("99999999999 a\n1 b\n", "numbers go from 0 to 4294967295"),
        ("0 0 0 a\n255 0 0 b\n", "has colours before the names"),
        ("a 0\nb 2\nc 1\n", "has numbers after the names, as in `c 1`"),
        ("a,1\nb,2\n", "has numbers after the names, as in `b,2`"),
        ('"a": [0, 0, 0],\n"b": [255, 255, 255]\n', "1 of 2 classes have a colour"),
        ("a 1.0 1.0 1.0\nb 0.0 0.0 0.0\n", "`a 1.0 1.0 1.0` seems to have a colour"),
        ("a #fff\nb #000\n", "`a #fff` seems to have a colour"),
        ("a 255 255 255 255\nb 0 0 0 255\n", "has numbers after the names"),
        ("lung\nbackground\n", "`background` is not the first class"),
        ("1 lung\n0 Background\n", "`Background` is not the first class"),
    ],
)
def test_class_lists_with_numbers_that_cannot_be_used_say_why(tmp_path, text, message):
    with pytest.raises(DatasetError, match=message):
        own(tmp_path, [grey(0, 1)], text)


@pytest.mark.parametrize(
    "form",
    [
        "{} {} {} {}",
        "{},{},{},{}",
        "{}: {}, {}, {}",
        "{} = ({}, {}, {})",
        "{}\t[{} {} {}]",
        "{} rgb({},{},{})",
        "{} #{:02x}{:02X}{:02x}",
    ],
)
def test_colours_are_heeded_however_they_are_written(tmp_path, form):
    """Taken for a part of the name, they would leave black outside and white inside."""
    lines = "\n".join(form.format(*each) for each in (("paper", 255, 255, 255), ("ink", 0, 0, 0)))
    dataset = own(tmp_path, [grey(255, 0)], lines)
    assert dataset.classes == ("paper", "ink")
    np.testing.assert_array_equal(labels_of(dataset)[0], SQUARE)


@pytest.mark.parametrize(
    ("dtype", "outside", "inside"),
    [
        (np.int8, -1, 127),
        (np.int16, -1, 32767),
        (np.int32, -1, 2**31 - 1),
        (np.int64, -1, 2**32 - 1),
        (np.int64, -1, 1_000_000),
        (np.uint16, 0, 65535),
        (np.uint64, 0, 2**32 - 1),
        (np.dtype(">i2"), -1, 32767),
    ],
)
def test_numbers_at_the_ends_of_their_type_are_not_mixed_up(tmp_path, dtype, outside, inside):
    array = np.where(SQUARE == 1, inside, outside).astype(dtype)
    (labels_HW,) = labels_of(own(tmp_path, [array], f"0 a\n7 b\n{inside} c"))
    expected = np.where(SQUARE == 1, 2, IGNORED if outside < 0 else 0)
    np.testing.assert_array_equal(labels_HW, expected)


@pytest.mark.parametrize("text", ["none\ngrade 1\ngrade 3", "grade 2\ngrade 4", "a 0\nb 1"])
def test_names_of_classes_may_end_in_numbers(tmp_path, text):
    np.testing.assert_array_equal(labels_of(own(tmp_path, [grey(0, 1)], text))[0], SQUARE)


def test_colours_of_a_description_of_before_are_heeded(tmp_path):
    dataset = own(tmp_path, [grey(255, 0)], PAPER)
    before = dataset.model_copy(update={"encoding": "binary", "told": None})
    np.testing.assert_array_equal(labels_of(before)[0], SQUARE)
