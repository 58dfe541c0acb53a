"""Equalisation of chest X-rays against the worked numbers of the paper's public code."""

import numpy as np
import pytest

from trainables.data.releases.chest_xray import equalise


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_four_pixels_by_hand(dtype):
    # Cumulative counts 2, 3, 4; less the 2 of the darkest, over 2: 0, 1/2, 1; root, times 255.
    levels = np.array([[0, 0, 1, 2]], dtype)
    np.testing.assert_allclose(equalise(levels), [[0, 0, 180.3122, 255]], atol=1e-4)


def test_levels_that_do_not_occur_change_nothing():
    # Cumulative counts 2, 5, 7, 8; less 2, over 6: 0, 1/2, 5/6, 1; root, times 255.
    levels = np.array([[10, 10, 20, 20], [20, 40, 40, 200]], np.uint8)
    expected = [[0, 0, 180.3122, 180.3122], [180.3122, 232.7821, 232.7821, 255]]
    np.testing.assert_allclose(equalise(levels), expected, atol=1e-4)


def test_the_brightest_8_bit_level_does_not_wrap_around():
    levels = np.array([[0, 255]], np.uint8)
    np.testing.assert_array_equal(equalise(levels), [[0, 255]])


def test_only_the_order_of_levels_matters():
    levels = np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8)
    np.testing.assert_array_equal(equalise(levels), equalise(levels.astype(np.uint16) * 200 + 7))


@pytest.mark.parametrize("level", [0, 7, 255])
def test_a_constant_image_becomes_black(level):
    result = equalise(np.full((3, 5), level, np.uint8))
    assert result.dtype == np.float32
    assert not result.any()


@pytest.mark.parametrize(
    "levels", [np.zeros((2, 2), np.float32), np.array([[-1, 2]]), np.array([[0, 2**20]])]
)
def test_what_is_not_grey_levels_is_refused(levels):
    with pytest.raises(ValueError, match="grey levels"):
        equalise(levels)
