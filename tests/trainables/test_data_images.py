"""Reading images from outside, and resizing them against torch and exact arithmetic."""

import struct
import zlib
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.data.errors import BadImageError
from trainables.data.files.images import read_grey, read_mask, resize_image, resize_labels


def png_claiming(width, height):
    """Return a PNG of a few bytes that says it has this many pixels."""

    def chunk(kind, data):
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(b"\0" * 64)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("size", [(8_000, 7_000), (10_000, 9_000), (30_000, 30_000)])
def test_an_image_that_would_fill_the_memory_is_refused_before_it_is_decoded(tmp_path, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(*size))
    with pytest.raises(BadImageError, match=r"bomb\.png.* more than the 50,000,000 pixels that"):
        read_grey(path)


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "torn.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BadImageError, match=r"torn\.png: not a readable image"):
        read_grey(path)


def test_a_flipped_bit_in_the_pixels_is_noticed(tmp_path):
    path = tmp_path / "flipped.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    content = bytearray(path.read_bytes())
    content[2500] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadImageError, match=r"flipped\.png"):
        read_grey(path)


def test_truncated_files_are_refused_even_if_another_library_allowed_them(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    path = tmp_path / "torn.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(BadImageError):
        read_grey(path)


@pytest.mark.parametrize("content", [b"", b"not an image", b"GIF89a" + b"\0" * 40])
def test_what_is_no_image_of_a_known_format_is_refused(tmp_path, content):
    path = tmp_path / "what.png"
    path.write_bytes(content)
    with pytest.raises(BadImageError, match=r"what\.png"):
        read_grey(path)


def test_sixteen_bits_stay_sixteen_bits(tmp_path):
    levels = np.array([[0, 255], [256, 65_535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    read = read_grey(tmp_path / "deep.png")
    np.testing.assert_array_equal(read, levels)
    assert np.issubdtype(read.dtype, np.integer)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_saved_as_colour_reads_as_the_grey_it_was(tmp_path, mode):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(levels).convert(mode).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "grey.png"), levels)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)),
        Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)),
        Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1"),
        Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("RGB"),
        Image.fromarray(np.array([[90, 200], [255, 3]], np.uint8)),
    ],
    ids=["0/1", "0/255", "1-bit", "RGB", "smoothed"],
)
@pytest.mark.parametrize("kind", ["png", "bmp"])
def test_masks_are_read_however_they_were_coded(tmp_path, image, kind):
    image.save(tmp_path / f"mask.{kind}")
    np.testing.assert_array_equal(
        read_mask(tmp_path / f"mask.{kind}"), [[False, True], [True, False]]
    )


@pytest.mark.parametrize("levels", [[1, 2], [1, 1], [0, 60], [2, 2], [0, 1, 2]])
def test_levels_that_do_not_say_what_is_inside_are_refused(tmp_path, levels):
    path = tmp_path / "mask.png"
    Image.fromarray(np.array([levels], np.uint8)).save(path)
    with pytest.raises(BadImageError, match=r"mask\.png: the levels .* do not say what is inside"):
        read_mask(path)


@pytest.mark.parametrize(
    ("levels", "inside"),
    [
        (np.array([[0, 127, 128, 255]], np.uint8), [0, 0, 1, 1]),
        (np.array([[0, 127, 128, 129]], np.uint8), [0, 0, 1, 1]),  # Not half of this file's 129.
        (np.array([[0, 1]], np.uint8), [0, 1]),
        (np.array([[255, 255]], np.uint8), [1, 1]),
        (np.array([[0, 65535]], np.uint16), [0, 1]),
        (np.array([[0, 255]], np.uint16), [0, 1]),
    ],
)
def test_a_mask_is_what_is_above_half_of_its_range(tmp_path, levels, inside):
    Image.fromarray(levels).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png")[0], np.array(inside, bool))


def test_an_empty_mask_stays_empty(tmp_path):
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "mask.png")
    assert not read_mask(tmp_path / "mask.png").any()


@pytest.mark.parametrize("shape", [(40, 56), (31, 17), (9, 12)])
def test_images_are_resized_as_torch_does_with_antialiasing(shape):
    image = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None, None], (16, 16), mode="bilinear", antialias=True
    )[0, 0].numpy()
    np.testing.assert_allclose(resize_image(image, 16), expected, atol=1e-3)


def test_8_bit_colour_is_within_a_level_of_exact_resizing():
    image = np.random.default_rng(0).integers(0, 256, (36, 36, 3)).astype(np.uint8)
    expected = np.stack(
        [resize_image(image[..., c].astype(np.float32), 32) for c in range(3)], axis=2
    )
    assert np.abs(resize_image(image, 32) - expected).max() <= 1


@pytest.mark.parametrize(("at", "halves"), [("corner", 0), ("centre", 1)])
@pytest.mark.parametrize(("old", "new"), [(3000, 288), (4892, 256), (36, 32), (7, 3), (3, 9)])
def test_labels_take_the_source_pixel_at_the_floor_of_the_scaled_position(old, new, at, halves):
    columns = np.arange(old)
    labels = np.stack([columns % 251, columns // 251]).astype(np.uint8)
    found = [
        resize_labels(np.broadcast_to(digit, (new, old)), new, at=at)[0].astype(int)
        for digit in labels
    ]
    expected = [int(Fraction((2 * i + halves) * old, 2 * new)) for i in range(new)]
    assert (found[0] + 251 * found[1]).tolist() == expected


@pytest.mark.parametrize(("at", "mode"), [("corner", "nearest"), ("centre", "nearest-exact")])
@pytest.mark.parametrize("shape", [(36, 36), (40, 56), (512, 300)])
def test_labels_are_resized_as_torch_resizes_them(shape, at, mode):
    labels = np.random.default_rng(0).integers(0, 34, shape).astype(np.uint8)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(labels)[None, None], (32, 32), mode=mode
    )[0, 0].numpy()
    np.testing.assert_array_equal(resize_labels(labels, 32, at=at), expected)
    pillow = np.asarray(Image.fromarray(labels).resize((32, 32), Image.Resampling.NEAREST))
    assert (pillow != expected).any() == (at == "corner")
