"""Generated stand-ins: three families, each a source and targets that look different.

Every sample is drawn from (seed, dataset, number), so that more of them, or another dataset, leave
the others as they are. A target differs from its source as real ones do: another camera, light,
framing and, for faces, other classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trainables.data.info import Sample
from trainables.data.stand_ins.canvas import Look
from trainables.data.stand_ins.faces import FACE_CLASSES
from trainables.data.stand_ins.scenes import Scene, chest, face, skin
from trainables.keys import derive_seed

SMALLEST_SIDE = 16  # Below, eyes and hairs fall between the pixels.
OFFICIAL_TRAIN = 20  # Training images that the release of FFHQ-34 fixes,
OFFICIAL_ALL = 40  # of this many.

COARSE_FACE = {
    "background": 0,
    "head": 1,
    "ear": 1,
    "neck": 1,
    "nose": 2,
    "sclera": 3,
    "iris": 3,
    "brow": 4,
    "upper lip": 5,
    "lower lip": 5,
    "hair": 6,
    "cloth": 7,
}
"""Labels of the source by the finer classes of its target."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How one dataset is drawn."""

    scene: Scene
    look: Look
    labels: tuple[int, ...] = ()
    """Label by the scene's own label; the same where empty."""
    official_split: bool = False


RECIPES = {
    "isic2018-like": Recipe(
        scene=skin,
        look=Look(zoom=(0.7, 1.3), turn=3.1, shift=0.2, blur=0.008, noise=0.02),
    ),
    # A dermatoscope: closer, dark corners, a violet cast, hard contrast.
    "ph2-like": Recipe(
        scene=skin,
        look=Look(
            zoom=(1.1, 1.5),
            turn=3.1,
            cast=(0.92, 0.80, 1.02),
            contrast=(1.2, 1.5),
            gamma=(1.0, 1.4),
            noise=0.015,
            corners=0.85,
        ),
    ),
    # A photograph from further away: orange light, soft, grainy, flat.
    "dermis-like": Recipe(
        scene=skin,
        look=Look(
            zoom=(0.5, 0.85),
            turn=3.1,
            shift=0.35,
            cast=(1.08, 0.88, 0.66),
            contrast=(0.65, 0.9),
            gamma=(0.7, 1.0),
            blur=0.02,
            noise=0.04,
        ),
    ),
    "shenzhen-like": Recipe(
        scene=chest,
        look=Look(zoom=(0.9, 1.1), turn=0.06, shift=0.06, blur=0.006, noise=0.02),
    ),
    # Bedside X-rays: crooked, flat, bright, grainy.
    "nih-like": Recipe(
        scene=chest,
        look=Look(
            zoom=(0.85, 1.25),
            turn=0.2,
            shift=0.18,
            contrast=(0.55, 0.8),
            gamma=(0.5, 0.8),
            blur=0.015,
            noise=0.04,
        ),
    ),
    # Another machine: smaller in a black frame, dark, sharp, hard contrast.
    "montgomery-like": Recipe(
        scene=chest,
        look=Look(
            zoom=(0.68, 0.85),
            turn=0.05,
            shift=0.1,
            contrast=(1.2, 1.45),
            gamma=(1.1, 1.5),
            noise=0.01,
            corners=0.7,
        ),
    ),
    "celebamask_hq-like": Recipe(
        scene=face,
        look=Look(zoom=(0.85, 1.05), turn=0.15, shift=0.06, blur=0.006, noise=0.015),
        labels=tuple(COARSE_FACE[name] for name in FACE_CLASSES),
    ),
    # Snapshots: closer, tilted, evening light, grainy.
    "ffhq34-like": Recipe(
        scene=face,
        look=Look(
            zoom=(1.0, 1.3),
            turn=0.35,
            shift=0.12,
            cast=(1.05, 0.92, 0.78),
            contrast=(0.9, 1.3),
            gamma=(0.8, 1.3),
            noise=0.04,
            corners=0.3,
        ),
        official_split=True,
    ),
}


def generate(name: str, *, count: int, side: int, seed: int = 0) -> Iterator[Sample]:
    """Yield `count` samples of a stand-in, sorted by id.

    Raises:
        KeyError: if there is no such stand-in.
        ValueError: if the side is too small to draw on.
    """
    if side < SMALLEST_SIDE:
        raise ValueError(f"`{name}` needs images of at least {SMALLEST_SIDE} pixels, got {side}")
    recipe = RECIPES[name]
    split = recipe.official_split and count >= OFFICIAL_ALL
    for number in range(count):
        part = "train" if number < OFFICIAL_TRAIN else "test"
        draw = np.random.default_rng(derive_seed(seed, name, number))
        image, labels_HW = recipe.scene(draw, recipe.look.view(draw, side))
        if recipe.labels:
            labels_HW = np.asarray(recipe.labels, np.uint8)[labels_HW]
        yield Sample(
            id=f"{number:06}",
            image_HWC=recipe.look.develop(draw, image),
            labels_HW=labels_HW,
            split=part if split else "",
        )
