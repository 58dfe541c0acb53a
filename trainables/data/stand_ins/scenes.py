"""The three generated families: skin with a lesion, a chest X-ray, a portrait.

Each scene returns an image in [0, 1] and its labels. What is to be segmented is never the only
dark or bright thing: uneven light, texture and look-alikes keep a threshold from solving it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trainables.data.stand_ins.canvas import Field, View, cover, ellipse, paint, smooth, texture
from trainables.data.stand_ins.faces import FACE_CLASSES

Scene = Callable[[np.random.Generator, View], tuple[Field, NDArray[np.uint8]]]


def skin(draw: np.random.Generator, view: View) -> tuple[Field, NDArray[np.uint8]]:
    """A pigmented lesion (1) on skin (0), with freckles, hairs and uneven light."""
    side = view.side
    tone = _between(draw, (0.95, 0.79, 0.70), (0.66, 0.46, 0.35))
    image = tone * (1 + 0.05 * texture(draw, side, 3) + 0.05 * texture(draw, side, 12))[..., None]

    # Freckles first: of the lesion's colours, and no lesion.
    pigment = tone * (1 - draw.uniform(0.4, 0.8) * np.array((0.6, 0.9, 1.0)))
    for _ in range(draw.integers(2, 8)):
        size = draw.uniform(0.04, 0.16)
        freckle = ellipse(view, tuple(draw.uniform(-1, 1, 2)), (size, size * draw.uniform(0.6, 1)))
        image = paint(image, draw.uniform(0.4, 0.9) * cover(freckle, size), pigment)

    lesion = _blob(draw, view)
    patches = 1 + 0.3 * texture(draw, side, 5) + 0.15 * texture(draw, side, 14)
    inside = cover(lesion, draw.uniform(0.05, 0.25))
    fading = 1 - draw.uniform(0, 0.45) * smooth(0.5 + 0.7 * texture(draw, side, 2))
    image = paint(image, inside * fading, pigment * patches[..., None])

    for _ in range(draw.integers(0, 6)):
        image = paint(image, 0.8 * _hair(draw, view), np.array((0.16, 0.11, 0.09)))
    return image * _light(draw, view, 0.4)[..., None], (lesion < 0).astype(np.uint8)


def chest(draw: np.random.Generator, view: View) -> tuple[Field, NDArray[np.uint8]]:
    """Both lungs (1) between ribs, heart and diaphragm; the air around the body is as dark."""
    side, x, y = view.side, view.x, view.y
    shoulders = 0.62 + 0.45 * smooth((y + 1.1) / 0.5) - 0.08 * y
    body = np.abs(x) - draw.uniform(0.82, 0.95) * shoulders
    grey = draw.uniform(0.02, 0.12) + draw.uniform(0.5, 0.62) * cover(body, 0.12)
    grey += 0.05 * texture(draw, side, 4)

    lungs = np.minimum(_lung(draw, view, -1), _lung(draw, view, 1))
    heart = ellipse(
        view,
        (draw.uniform(0.08, 0.16), draw.uniform(0.22, 0.32)),
        (draw.uniform(0.26, 0.38), draw.uniform(0.22, 0.28)),
        turn=draw.uniform(0.3, 0.7),
    )
    spine = np.abs(x) - draw.uniform(0.09, 0.13)
    middle = np.minimum(heart, spine)
    lungs = np.maximum(lungs, -middle)

    air = draw.uniform(0.2, 0.38) * (1 + 0.25 * texture(draw, side, 5))
    grey -= air * cover(lungs, 0.06)
    grey += draw.uniform(0.08, 0.2) * cover(middle, 0.15)
    grey += _ribs(draw, view) * (body < -0.03)
    # Shadows of disease, which belong to the lung, and gas in the stomach, which does not.
    for _ in range(draw.integers(0, 4)):
        at = (draw.choice((-1, 1)) * draw.uniform(0.25, 0.6), draw.uniform(-0.5, 0.4))
        size = draw.uniform(0.08, 0.3)
        grey += draw.uniform(0.05, 0.25) * cover(ellipse(view, at, (size, size)), size)
    gas = ellipse(
        view, (draw.uniform(0.25, 0.6), draw.uniform(0.72, 0.95)), (draw.uniform(0.08, 0.25), 0.1)
    )
    grey -= draw.uniform(0, 0.3) * cover(gas, 0.1)
    grey *= _light(draw, view, 0.35)
    return np.repeat(grey[..., None], 3, axis=2), (lungs < 0).astype(np.uint8)


def face(draw: np.random.Generator, view: View) -> tuple[Field, NDArray[np.uint8]]:
    """A portrait in the classes of `FACE_CLASSES`."""
    side, x, y = view.side, view.x, view.y
    tone = _between(draw, (0.96, 0.80, 0.71), (0.45, 0.30, 0.22))
    hair_colour = _between(draw, (0.10, 0.07, 0.06), (0.75, 0.55, 0.30)) * draw.uniform(0.7, 1.2)
    image = draw.uniform(0.1, 0.9, 3) * np.ones((side, side, 3))
    image = image + 0.15 * texture(draw, side, 3)[..., None] * draw.uniform(0.2, 1, 3)
    labels = np.zeros((side, side), np.uint8)

    def add(name: str, distance: Field, colour: Field, width: float = 0.0) -> None:
        nonlocal image
        image = paint(image, cover(distance, width or view.pixel), colour)
        labels[distance < 0] = FACE_CLASSES.index(name)

    width, height = draw.uniform(0.44, 0.54), draw.uniform(0.58, 0.68)
    strands = 1 + 0.25 * texture(draw, side, 10)[..., None]
    length = draw.uniform(-0.3, 0.9)
    mane = ellipse(view, (0, -0.12), (width + draw.uniform(0.1, 0.22), height + 0.12))
    locks = np.maximum(np.abs(x) - width - draw.uniform(0.02, 0.18), np.abs(y - 0.1) - length)
    add("hair", np.minimum(mane, locks), hair_colour * strands)
    neck = np.maximum(np.abs(x) - draw.uniform(0.22, 0.3), 0.3 - y)
    add("neck", neck, tone * draw.uniform(0.72, 0.92))
    collar = 0.86 - 0.25 * smooth(np.abs(x) * 1.2) * draw.uniform(0.2, 1) + 0.25 * x**2
    pattern = 1 + 0.2 * texture(draw, side, 8)[..., None]
    add("cloth", collar - y, draw.uniform(0.05, 0.95, 3) * pattern)
    for flip in (-1, 1):
        add("ear", ellipse(view, (flip * width, 0.05), (0.09, 0.16)), tone * 0.85)
    shade = 1 + 0.12 * (x - draw.uniform(-0.5, 0.5)) * draw.choice((-1, 1))
    shade = shade * (1 + 0.06 * texture(draw, side, 4))
    add("head", ellipse(view, (0, 0.05), (width, height)), tone * shade[..., None])
    fringe = y + draw.uniform(0.28, 0.5) - draw.uniform(-0.4, 0.4) * x + 0.3 * x**2
    add("hair", np.maximum(mane, fringe), hair_colour * strands)
    _features(draw, view, add, tone=tone, hair_colour=hair_colour, width=width)
    return image * _light(draw, view, 0.25)[..., None], labels


def _features(
    draw: np.random.Generator,
    view: View,
    add: Callable[..., None],
    *,
    tone: NDArray[np.float64],
    hair_colour: NDArray[np.float64],
    width: float,
) -> None:
    """Add eyes, brows, nose and mouth to a head."""
    apart, level = 0.46 * width, draw.uniform(-0.1, -0.02)
    gaze, open_ = draw.uniform(-0.03, 0.03), draw.uniform(0.075, 0.1)
    iris_colour = _between(draw, (0.25, 0.15, 0.08), (0.35, 0.55, 0.65))
    tilt, lift = draw.uniform(-0.15, 0.25), draw.uniform(0.17, 0.22)
    for flip in (-1, 1):
        eye = ellipse(view, (flip * apart, level), (0.15, open_))
        add("sclera", eye, np.array((0.93, 0.91, 0.89)))
        iris = ellipse(view, (flip * apart + gaze, level), (0.075, 0.075))
        add("iris", np.maximum(iris, eye), iris_colour)
        brow = ellipse(view, (flip * apart, level - lift), (0.17, 0.05), turn=flip * tilt)
        add("brow", brow, 0.8 * hair_colour)
    nose = ellipse(view, (0, 0.17), (draw.uniform(0.09, 0.13), 0.17))
    add("nose", nose, tone * draw.uniform(0.8, 0.93), 0.1)
    lips, thick = tone * np.array((0.95, 0.6, 0.6)), draw.uniform(0.07, 0.1)
    mouth = ellipse(view, (0, 0.46), (draw.uniform(0.16, 0.24), thick))
    add("upper lip", np.maximum(mouth, view.y - 0.46), 0.85 * lips)
    add("lower lip", np.maximum(mouth, 0.46 - view.y), lips)


def _blob(draw: np.random.Generator, view: View) -> Field:
    """Return the distance to an irregular outline: a stretched circle with bumps."""
    at, turn = draw.uniform(-0.25, 0.25, 2), draw.uniform(0, np.pi)
    stretch, radius = draw.uniform(0.7, 1), draw.uniform(0.3, 0.62)
    x, y = view.x - at[0], view.y - at[1]
    u, v = np.cos(turn) * x + np.sin(turn) * y, (np.cos(turn) * y - np.sin(turn) * x) / stretch
    angle, distance = np.arctan2(v, u), np.hypot(u, v)
    bumps = np.zeros_like(angle)
    for waves in range(2, 8):
        bumps += draw.normal(0, 0.22 / waves) * np.cos(waves * angle + draw.uniform(0, 2 * np.pi))
    outside: Field = distance - radius * (1 + bumps.clip(-0.5, 0.5))
    return outside


def _hair(draw: np.random.Generator, view: View) -> Field:
    """Return the coverage of one bent hair across the picture."""
    turn, bend = draw.uniform(0, np.pi), draw.uniform(-0.5, 0.5)
    u = np.cos(turn) * view.x + np.sin(turn) * view.y
    v = np.cos(turn) * view.y - np.sin(turn) * view.x
    middle = draw.uniform(-0.8, 0.8) + bend * u**2
    return cover(np.abs(v - middle) - 0.012, view.pixel)


def _lung(draw: np.random.Generator, view: View, flip: int) -> Field:
    """Return the distance to the lung on one side, over the dome of the diaphragm."""
    at = (flip * draw.uniform(0.40, 0.48), draw.uniform(-0.05, 0.08))
    radii = (draw.uniform(0.3, 0.38), draw.uniform(0.68, 0.82))
    lung = ellipse(view, at, radii, turn=flip * draw.uniform(-0.16, -0.04))
    floor = draw.uniform(0.38, 0.58) + draw.uniform(0.5, 1.5) * (view.x - 0.8 * at[0]) ** 2
    return np.maximum(lung, view.y - floor)


def _ribs(draw: np.random.Generator, view: View) -> Field:
    """Return the brightness that ribs and collar bones add."""
    x, y = np.abs(view.x), view.y
    spacing, phase = draw.uniform(22, 28), draw.uniform(0, 2 * np.pi)
    bands = smooth(np.cos(spacing * (y - 0.3 * x + 0.9 * x**2) + phase) * 0.8)
    collar = cover(np.abs(y + 0.72 - 0.25 * (x - 0.1)) - 0.03, 0.05) * (x < 0.8)
    bones: Field = draw.uniform(0.06, 0.14) * (bands * (x > 0.12) + collar)
    return bones


def _light(draw: np.random.Generator, view: View, strength: float) -> Field:
    """Return gains of a light from one side."""
    turn = draw.uniform(0, 2 * np.pi)
    slope = draw.uniform(0, strength)
    gains: Field = 1 + slope * (np.cos(turn) * view.x + np.sin(turn) * view.y)
    return gains


def _between(
    draw: np.random.Generator, one: tuple[float, ...], other: tuple[float, ...]
) -> NDArray[np.float64]:
    """Return a random colour on the way from one to the other."""
    share = draw.uniform()
    return (1 - share) * np.asarray(one) + share * np.asarray(other)
