"""Bounds of every number that a user can give, by what the number counts. No torch here.

A number is checked where it is read, against what its farthest use can take: one that trains for days
and then does not fit a column of the table is found out too late. The bounds lie beyond whatever could
come to an end, so that none of them ever refuses what an earlier version has stored.
"""

from typing import Annotated

from pydantic import Field

INT64_MAX = 2**63 - 1  # A column of the table as Parquet.
UINT32_MAX = 2**32 - 1  # What NumPy takes for a seed; Optuna's samplers are seeded through it.
INT32_MAX = 2**31 - 1  # A number of Kubernetes.
BYTES_MAX = 2**53  # Whole numbers up to here survive as a float, which JSON readers make of them.

MOST_UPDATES = 10**9  # A year at 30 updates a second; steps are int64 in MLflow's database.
MOST_IMAGES = 10**8
MOST_DRAWN = 10_000
FEWEST_EVALUATED = 2  # Images of a target that training must leave: one to validate, one to test.
LARGEST_SIDE = (
    16_384  # Pixels: an image of this side has 0.8 GB, and Arrow's offsets end at 2 GiB.
)
WIDEST = 2**20  # Channels of a layer, beyond any memory.
DEEPEST = 10_000  # Blocks, layers and heads.
LARGEST_BATCH = 10**6
MOST_SEEDS = 10_000
LONGEST_LIST = 1_000
MOST_CPUS = 8_192  # What a Linux kernel can count.
MOST_TRIES = 1_000
MOST_TRIALS = 100_000
LONGEST_WAIT_S = 10**6
MOST_SPENT = 10**9  # Hours, or money.
SMALLEST, LARGEST = 1e-37, 1e37  # Normal numbers of float32, in which a run computes.

Seed = Annotated[int, Field(ge=0, le=INT64_MAX)]
Count = Annotated[int, Field(gt=0, le=MOST_UPDATES)]
"""Updates, epochs and the like."""
CountOrNone = Annotated[int, Field(ge=0, le=MOST_UPDATES)]
"""The same, or 0."""
Images = Annotated[int, Field(gt=0, le=MOST_IMAGES)]
ImagesOrNone = Annotated[int, Field(ge=0, le=MOST_IMAGES)]
Drawn = Annotated[int, Field(ge=0, le=MOST_DRAWN)]
"""Pictures that are in memory together."""
Side = Annotated[int, Field(gt=0, le=LARGEST_SIDE)]
StoredSide = Annotated[int, Field(gt=0, le=2 * LARGEST_SIDE)]
"""Of what is stored to cut crops from, at most twice the side that networks see."""
Width = Annotated[int, Field(gt=0, le=WIDEST)]
Depth = Annotated[int, Field(gt=0, le=DEEPEST)]
Block = Annotated[int, Field(ge=0, le=DEEPEST)]
"""Which block, counted from 0."""
Batch = Annotated[int, Field(gt=0, le=LARGEST_BATCH)]
Cpus = Annotated[int, Field(gt=0, le=MOST_CPUS)]
Timestep = Annotated[int, Field(ge=0, le=999)]
"""Noise levels of the diffusion, the least first."""
Classes = Annotated[int, Field(ge=2, le=255)]
"""Background included; a label has eight bits, and 255 stands for no class."""
Version = Annotated[int, Field(ge=0, le=BYTES_MAX)]
Bytes = Annotated[int, Field(ge=0, le=BYTES_MAX)]
"""Bytes, or whatever else of which there are that many: pixels of a whole dataset."""
Byte = Annotated[int, Field(ge=0, le=255)]
Level = Annotated[int, Field(ge=0, le=UINT32_MAX)]
"""A grey level of an image."""
Positive = Annotated[float, Field(ge=SMALLEST, le=LARGEST)]
"""A rate, a norm or another positive factor."""
Weight = Annotated[float, Field(ge=0, le=LARGEST)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
