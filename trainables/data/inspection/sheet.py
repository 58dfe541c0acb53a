"""A contact sheet: images of a prepared dataset with their labels laid over them, and a legend.

People look before they train: a mask that is shifted, turned, inverted or of another image is seen
at once, and by no count; and so is a class that has the name of another, where its number stands in
the region and beside the name.
"""

import colorsys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt

from trainables.data.contents import Contents
from trainables.data.info import IGNORED
from trainables.data.prepared import Prepared
from trainables.data.store import ArrowDataset
from trainables.pictures import GENERATED

TILES = ((2, 160), (8, 240), (IGNORED, 360))
"""Pixels of a tile's side by the most classes that it is for; images are enlarged to it by pixels."""
GAP, CAPTION, TITLE, LINE = 6, 14, 22, 16
TINT = 0.35  # Of the colour of a class that its pixels take on.
HATCH = 4  # Pixels of the tile between two stripes of what is ignored.
LONGEST_ID = 24
LONGEST_NAME = 30
ENTRY = 370  # Pixels that a class has in the legend.
ROOM = 6  # Pixels around its number that a region must have to bear it.


@dataclass(frozen=True)
class Legend:
    """What stands beside each colour."""

    names: tuple[str, ...]
    pixels: tuple[int, ...]
    """Of each class in the whole dataset; empty if it was not noted."""
    images: tuple[int, ...]
    """With a pixel of each class; empty if it was not noted."""

    def lines(self) -> Iterator[str]:
        """Yield one line per class: number, name, share of pixels, images that show it."""
        total = max(sum(self.pixels), 1)
        for label, name in enumerate(self.names):
            short = name if len(name) <= LONGEST_NAME else f"...{name[3 - LONGEST_NAME :]}"
            share = f", {self.pixels[label] / total:.2%} of pixels" if self.pixels else ""
            images = f", in {self.images[label]} images" if self.images else ""
            yield f"{label} {short}{share}{images}"


def legend_of(prepared: Prepared, contents: Contents | None) -> Legend:
    """Return what is known of the classes of a dataset."""
    images = np.zeros(len(prepared.classes), int)
    for shown in contents.classes if contents else ():
        images[list(shown)] += 1
    return Legend(prepared.classes, prepared.pixels, tuple(images.tolist()) if contents else ())


def write_sheet(
    path: Path,
    data: ArrowDataset,
    prepared: Prepared,
    *,
    images: int,
    contents: Contents | None = None,
) -> None:
    """Write a picture of `images` images, spread evenly over the ids: plain above, labelled below.

    Args:
        contents: which classes each image shows, for the legend's counts.

    Raises:
        ValueError: if there are no images to show.
    """
    if images < 1:
        raise ValueError(f"a sheet shows at least one image, not {images}")
    count = min(images, len(data))
    chosen = np.linspace(0, len(data) - 1, count).round().astype(int).tolist()
    tile = next(side for most, side in TILES if len(prepared.classes) <= most)
    columns = min(count, max(4, round(count**0.5 * 1.4)))
    rows = -(-count // columns)
    step_x, step_y = tile + GAP, 2 * tile + CAPTION + GAP
    width = max(columns * step_x + GAP, 2 * ENTRY)
    colours = class_colours(len(prepared.classes))
    legend = _legend(legend_of(prepared, contents), colours, width)
    top = TITLE + legend.height + GAP
    sheet = Image.new("RGB", (width, top + rows * step_y), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), _title(prepared, count), fill="black")
    sheet.paste(legend, (0, TITLE))
    for place, index in enumerate(chosen):
        x, y = GAP + place % columns * step_x, top + place // columns * step_y
        image, labels = data.images([index])[0], data.labels([index])[0]
        sheet.paste(_tile(image, tile), (x, y))
        sheet.paste(_labelled(image, labels, colours, tile), (x, y + tile))
        draw.text((x, y + 2 * tile), data.ids[index][:LONGEST_ID], fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def class_colours(classes: int) -> NDArray[np.uint8]:
    """Return (classes, 3) colours: background black, neighbours in number far apart in hue and tone."""
    tones = ((0.80, 1.0), (1.0, 0.65), (0.40, 1.0))  # Saturation and value.
    hues = max(1, -(-(classes - 1) // len(tones)))  # Of each tone, evenly spread,
    stride = next(n for n in range(round(hues * 0.618) or 1, 2 * hues + 1) if gcd(n, hues) == 1)
    colours = []
    for number in range(classes - 1):
        step, tone = divmod(number, len(tones))
        # and taken in strides, each tone a third of the circle further.
        hue = (step * stride % hues + tone / 3) / hues + tone / 3
        colours.append(colorsys.hsv_to_rgb(hue % 1, *tones[tone]))
    return (np.array([(0.0, 0.0, 0.0), *colours]) * 255).round().astype(np.uint8)


def overlaid(
    image_HWC: NDArray[np.uint8], labels_HW: NDArray[np.uint8], colours: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return the image with each class tinted and outlined; background plain, ignored hatched."""
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
    result = np.where((labels_HW == IGNORED)[..., None], _hatching(labels_HW.shape), result)
    shown: NDArray[np.uint8] = result.round().astype(np.uint8)
    return shown


def _hatching(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return stripes of black and white, HW1, which no image and no class has."""
    y, x = np.ogrid[0 : shape[0], 0 : shape[1]]
    return np.where((x + y) // HATCH % 2 == 0, 255.0, 0.0)[..., None]


def _border(labels_HW: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the pixels of a class that have a neighbour of another one, the background's left out."""
    padded = np.pad(labels_HW, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    differs: NDArray[np.bool_] = np.logical_or.reduce([centre != each for each in neighbours])
    return differs & (centre > 0)


def _labelled(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], colours: NDArray[np.uint8], tile: int
) -> Image.Image:
    """Return a tile with its classes tinted, outlined and numbered."""
    enlarged = np.asarray(_tile(image, tile))
    places = np.arange(tile) * len(labels) // tile
    labels = labels[places][:, places]
    picture = Image.fromarray(overlaid(enlarged, labels, colours))
    if len(colours) > 2:
        draw = ImageDraw.Draw(picture)
        for label, x, y in _numbers(labels, range(1, len(colours))):
            draw.text(
                (x, y), str(label), fill="white", stroke_fill="black", stroke_width=1, anchor="mm"
            )
    return picture


def _numbers(labels: NDArray[np.uint8], classes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield the label of each region that has room for it, and where: furthest from its border."""
    for label in classes:
        inside = labels == label
        if inside.any():
            depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
            y, x = np.unravel_index(int(depth.argmax()), depth.shape)
            if depth[y, x] >= ROOM:
                yield label, int(x), int(y)


def _legend(legend: Legend, colours: NDArray[np.uint8], width: int) -> Image.Image:
    """Return the classes in columns, each with its colour, and how ignored pixels look."""
    lines = [*legend.lines(), f"{IGNORED} ignored: of no class, not trained on"]
    columns = max(1, (width - GAP) // ENTRY)
    rows = -(-len(lines) // columns)
    picture = Image.new("RGB", (width, rows * LINE + GAP), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default()
    size = LINE - 4
    stripes = np.repeat(_hatching((size, size)), 3, axis=2).astype(np.uint8)
    for place, line in enumerate(lines):
        x, y = GAP + place // rows * ENTRY, place % rows * LINE
        if place < len(colours):
            colour = "white" if place == 0 else tuple(colours[place].tolist())
            draw.rectangle((x, y, x + size, y + size), fill=colour, outline="black")
        else:
            picture.paste(Image.fromarray(stripes), (x, y))
        draw.text((x + LINE + 2, y), line, fill="black", font=font)
    return picture


def _tile(image_HWC: NDArray[np.uint8], side: int) -> Image.Image:
    tile = Image.fromarray(image_HWC)
    how = Image.Resampling.NEAREST if tile.width < side else Image.Resampling.BILINEAR
    return tile.resize((side, side), how)


def _title(prepared: Prepared, count: int) -> str:
    made = f" ({GENERATED})" if prepared.generated else ""
    return (
        f"{prepared.title}{made}: {count} of {prepared.images} images, {prepared.stored_side} px, "
        f"fingerprint {prepared.fingerprint[:16]}"
    )
