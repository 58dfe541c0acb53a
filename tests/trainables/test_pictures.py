"""The pictures that runs leave behind say what they are, however small they are."""

import numpy as np
import torch
from PIL import Image

from trainables.pictures import CAPTION, write_samples


def caption_of(path, *, samples):
    """Return the ink of the caption under a grid of drawn samples, as (height, width)."""
    images, labels = torch.zeros(samples, 3, 16, 16), torch.zeros(samples, 16, 16, dtype=int)
    write_samples(path, images, labels, classes=2, generated=True)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"))[-CAPTION:] < 255


def test_the_caption_of_two_samples_is_as_whole_as_that_of_twenty(tmp_path):
    wide = caption_of(tmp_path / "wide.png", samples=20)
    narrow = caption_of(tmp_path / "narrow.png", samples=2)
    assert narrow.shape[1] < wide.shape[1]
    assert narrow.sum() == wide.sum() > 0
    assert not narrow[:, -1].any()
