"""Picture grids that a run leaves behind: drawn samples, and predictions beside the truth.

Plain arrays and Pillow; one picture pixel per image pixel, enlarged by whole factors. Pictures of
generated data say so in the file, under the grid.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

if TYPE_CHECKING:
    from torch import Tensor

TILE = 96  # Smallest side of one tile in picture pixels.
GAP = 4
CAPTION = 14
GENERATED = "generated data"
IGNORED = 255


def write_predictions(
    path: Path,
    images_BCHW: Tensor,
    labels_BHW: Tensor,
    predicted_BHW: Tensor,
    *,
    classes: int,
    generated: bool,
    scores: Sequence[float],
) -> None:
    """Write three rows of tiles: image, ground truth, prediction; the scores, in percent, below."""
    rows = [
        _rgb(images_BCHW),
        _coloured(labels_BHW, classes),
        _coloured(predicted_BHW, classes),
    ]
    labels = [f"{each:.1f}" for each in scores]
    _write_grid(
        path, rows, "image / ground truth / prediction", generated=generated, labels=labels
    )


def write_samples(
    path: Path, images_BCHW: Tensor, labels_BHW: Tensor | None, *, classes: int, generated: bool
) -> None:
    """Write drawn samples: a row of images and, for a joint model, the row of their masks."""
    rows = [_rgb(images_BCHW)]
    if labels_BHW is not None:
        rows.append(_coloured(labels_BHW, classes))
    joint = labels_BHW is not None
    caption = "sampled image / sampled mask" if joint else "sampled image"
    _write_grid(path, rows, caption, generated=generated)


def palette(classes: int) -> NDArray[np.uint8]:
    """Return (classes, 3) colours: background black, the others spread over the hue circle."""
    # The golden ratio spreads any number of hues evenly without knowing how many will come.
    colours = [colorsys.hsv_to_rgb(i * 0.618034 % 1, 0.75, 1.0) for i in range(classes - 1)]
    return (np.array([(0.0, 0.0, 0.0), *colours]) * 255).round().astype(np.uint8)


def _rgb(images_BCHW: Tensor) -> NDArray[np.uint8]:
    scaled = (images_BCHW.detach().cpu().clamp(-1, 1) + 1) * 127.5
    array: NDArray[np.uint8] = scaled.round().byte().permute(0, 2, 3, 1).numpy()
    return array


def _coloured(labels_BHW: Tensor, classes: int) -> NDArray[np.uint8]:
    labels = labels_BHW.cpu().numpy()
    grey = np.full(3, 128, np.uint8)
    known = np.where(labels == IGNORED, 0, labels)
    return np.where((labels == IGNORED)[..., None], grey, palette(classes)[known])


def _write_grid(
    path: Path,
    rows: list[NDArray[np.uint8]],
    caption: str,
    *,
    generated: bool,
    labels: Sequence[str] = (),
) -> None:
    side = rows[0].shape[1]
    factor = max(1, -(-TILE // side))
    step = side * factor + GAP
    columns = max(len(row) for row in rows)
    below = len(rows) * step + GAP
    lines = 1 + bool(labels)
    text = f"{caption} ({GENERATED})" if generated else caption
    # A few narrow tiles are no reason to cut what they are.
    width = max(columns * step, GAP + ceil(ImageFont.load_default().getlength(text)))
    size = (width + GAP, below + lines * CAPTION)
    sheet = Image.new("RGB", size, "white")
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            enlarged = np.kron(tile, np.ones((factor, factor, 1), np.uint8))
            sheet.paste(Image.fromarray(enlarged), (GAP + x * step, GAP + y * step))
    draw = ImageDraw.Draw(sheet)
    for x, label in enumerate(labels):
        draw.text((GAP + x * step, below), label, fill="black")
    draw.text((GAP, size[1] - CAPTION), text, fill="black")
    description = PngInfo()
    description.add_text("Description", text)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, pnginfo=description)
