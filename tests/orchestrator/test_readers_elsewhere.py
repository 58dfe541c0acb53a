"""Processes that read images run our code, whatever `trainables` lies where the command is called."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.command_line import PATIENCE_S
from tests.documents import document

HOSTILE = "raise SystemExit('another trainables was imported')\n"
PLAIN = "from orchestrator.__main__ import main\n\nif __name__ == '__main__':\n    main()\n"
# Then readers are not forked but spawned, and find what they import anew.
WITH_A_THREAD = """
import threading

if __name__ == "__main__":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    from orchestrator.__main__ import main

    main()
"""


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "own"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(24):
        grey = np.zeros((48, 48), np.uint8)
        grey[number : number + 12, 8:40] = 255
        Image.fromarray(grey).save(folder / "masks" / f"{number}.png")
        Image.fromarray(grey // 2 + number).save(folder / "images" / f"{number}.png")
    (folder / "classes.txt").write_text("background\nthing\n")
    (folder / "train.txt").write_text("".join(f"{number}\n" for number in range(12)))
    return folder


@pytest.mark.parametrize("program", [PLAIN, WITH_A_THREAD], ids=["forked", "spawned"])
def test_another_trainables_beside_the_command_is_not_imported_by_readers(
    program, images, tmp_path
):
    hostile = tmp_path / "hostile"
    for name in ("trainables", "trainables/data"):
        (hostile / name).mkdir(parents=True)
        (hostile / name / "__init__.py").write_text(HOSTILE)
    (hostile / "program.py").write_text(program)
    told = [("--images", "images"), ("--masks", "masks"), ("--classes", "classes.txt")]
    told += [("--train", "train.txt")]
    options = [part for name, file in told for part in (name, str(images / file))]
    done = subprocess.run(
        [sys.executable, "program.py", "data", "import", "mine", *options]
        + ["--workers", "2", "--image-size", "16", "--json", "--home", str(tmp_path / "home")],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=hostile,
        env=os.environ | {"PYTHONPATH": str(hostile)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert document(done.stdout)["dataset"]["images"] == 24
