"""A command that is refused leaves no home behind that was not there before, and says why in a line."""

import pytest

from tests.command_line import hdsweep

NOBODY = "127.0.0.1:9"
ONE_RUN = ("--methods", "scratch_adm", "--targets", "ph2", "--seeds", "0", "--scale", "smoke")
SEARCH = ("tune", "lambda", "--scale", "smoke", "--source", "isic2018", "--targets", "ph2")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("run", "table2", *ONE_RUN, "--address", NOBODY), f"no Ray cluster at `{NOBODY}`"),
        (("run", "table2", *ONE_RUN, "--tracking-uri", f"http://{NOBODY}"), "does not answer"),
        (("run", "table2", *ONE_RUN[:-1], "paper"), "data prepare"),
        ((*SEARCH, "--address", NOBODY), f"no Ray cluster at `{NOBODY}`"),
        ((*SEARCH, "--tracking-uri", f"http://{NOBODY}"), "does not answer"),
        ((*SEARCH[:3], "paper", *SEARCH[4:]), "data prepare"),
    ],
)
def test_nothing_is_left_of_a_home_that_a_refused_command_made(asked, said, tmp_path):
    out, err = hdsweep(*asked, home=tmp_path / "made" / "for" / "it", exit_code=2)
    assert said in err
    assert out == ""
    assert not list(tmp_path.iterdir())


def test_what_was_there_before_stays(tmp_path):
    (tmp_path / "home" / "mine").mkdir(parents=True)
    asked = ("run", "table2", *ONE_RUN, "--address", NOBODY)
    hdsweep(*asked, home=tmp_path / "home", exit_code=2)
    assert (tmp_path / "home" / "mine").is_dir()
