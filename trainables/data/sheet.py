"""A contact sheet: images of a prepared dataset with their labels laid over them.

People look before they train: a mask that is shifted, turned, inverted or of another image is seen
at once, and by no count.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trainables.data.info import IGNORED
from trainables.data.prepared import Prepared
from trainables.data.store import ArrowDataset
from trainables.pictures import GENERATED, palette

TILE = 160  # Pixels of a tile's side; images are enlarged to it by pixels, never blurred.
GAP, CAPTION, TITLE = 6, 14, 22
TINT = 0.35  # Of the colour of a class that its pixels take on.
LONGEST_ID = 24


def write_sheet(path: Path, data: ArrowDataset, prepared: Prepared, *, images: int) -> None:
    """Write a picture of `images` images, spread evenly over the ids: plain above, labelled below.

    Raises:
        ValueError: if there are no images to show.
    """
    if images < 1:
        raise ValueError(f"a sheet shows at least one image, not {images}")
    count = min(images, len(data))
    chosen = np.linspace(0, len(data) - 1, count).round().astype(int)
    columns = min(count, max(4, round(count**0.5 * 1.4)))
    rows = -(-count // columns)
    step_x, step_y = TILE + GAP, 2 * TILE + CAPTION + GAP
    sheet = Image.new("RGB", (columns * step_x + GAP, rows * step_y + TITLE + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), _title(prepared, count), fill="black")
    colours = palette(len(prepared.classes))
    for place, index in enumerate(chosen.tolist()):
        x = GAP + place % columns * step_x
        y = TITLE + place // columns * step_y
        image, labels = data.images([index])[0], data.labels([index])[0]
        sheet.paste(_tile(image), (x, y))
        sheet.paste(_tile(overlaid(image, labels, colours)), (x, y + TILE))
        draw.text((x, y + 2 * TILE), data.ids[index][:LONGEST_ID], fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def overlaid(
    image_HWC: NDArray[np.uint8], labels_HW: NDArray[np.uint8], colours: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return the image with each class tinted and outlined; background plain, ignored grey."""
    classes = len(colours)
    table = np.full((IGNORED + 1, 3), 128, np.uint8)
    table[:classes] = colours
    painted = table[labels_HW].astype(np.float64)
    tinted = (1 - TINT) * image_HWC + TINT * painted
    inside = labels_HW > 0
    result = np.where(inside[..., None], tinted, image_HWC)
    border = _border(labels_HW)
    brightest = np.where(labels_HW[..., None] > 0, painted, 255.0)
    result = np.where(border[..., None], brightest, result)
    shown: NDArray[np.uint8] = result.round().astype(np.uint8)
    return shown


def _border(labels_HW: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the pixels of a class that have a neighbour of another one, the background's left out."""
    padded = np.pad(labels_HW, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    differs: NDArray[np.bool_] = np.logical_or.reduce([centre != each for each in neighbours])
    return differs & (centre > 0)


def _tile(image_HWC: NDArray[np.uint8]) -> Image.Image:
    tile = Image.fromarray(image_HWC)
    enlarges = tile.width < TILE
    how = Image.Resampling.NEAREST if enlarges else Image.Resampling.BILINEAR
    return tile.resize((TILE, TILE), how)


def _title(prepared: Prepared, count: int) -> str:
    made = f" ({GENERATED})" if prepared.generated else ""
    return (
        f"{prepared.title}{made}: {count} of {prepared.images} images, {prepared.stored_side} px, "
        f"fingerprint {prepared.fingerprint[:16]}"
    )
