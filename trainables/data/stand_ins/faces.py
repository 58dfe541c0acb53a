"""The classes of generated portraits, by label: what a program draws, and so its own."""

FACE_CLASSES = (
    "background",
    "head",
    "ear",
    "nose",
    "sclera",
    "iris",
    "brow",
    "upper lip",
    "lower lip",
    "hair",
    "neck",
    "cloth",
)
