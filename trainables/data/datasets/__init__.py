"""The datasets, one file each. Adding a dataset is adding a file.

Each file defines `DATASET`, and `STAND_IN` where a generated dataset can take its place. Importing
one is cheap: the planner reads them all.
"""

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path

from trainables.data.info import DatasetInfo


@cache
def all_datasets() -> dict[str, DatasetInfo]:
    """Return every dataset by name, sorted by name.

    Raises:
        ValueError: if two files define the same name.
    """
    found: dict[str, DatasetInfo] = {}
    for file in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        module = import_module(f"{__name__}.{file}")
        infos: list[DatasetInfo] = [module.DATASET, *filter(None, [vars(module).get("STAND_IN")])]
        for info in infos:
            if info.name in found:
                raise ValueError(f"dataset `{info.name}` is defined twice, again in {file}.py")
            found[info.name] = info
    return dict(sorted(found.items()))


def known_datasets(home: Path | None) -> dict[str, DatasetInfo]:
    """Return every dataset by name, with those that were imported into a home folder.

    Raises:
        DatasetError: if the description of an imported one cannot be read.
    """
    if home is None:
        return all_datasets()
    from trainables.data.own.imported import imported_datasets

    return imported_datasets(home) | all_datasets()
