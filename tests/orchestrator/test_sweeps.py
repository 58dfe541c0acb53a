"""Which sweep a result is of: its name and hash, what a filter and `--set` do to what is stored, homes of before."""

import itertools
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from orchestrator.errors import InputError
from orchestrator.plan.identity import (
    canonical,
    distinct,
    find,
    folders,
    looks_like_a_sweep,
    slug,
)
from orchestrator.plan.plan import load_plan, whole_of
from orchestrator.store.home.home import open_home
from orchestrator.store.store import Store
from orchestrator.store.sweeps.file import every
from orchestrator.study.from_search import answer_file
from orchestrator.verbs.asked import asked_plan
from orchestrator.verbs.rebuild import rebuild
from orchestrator.verbs.run import table_of, write_table
from tests.command_line import hdsweep
from tests.documents import document
from tests.stored_runs import commit_made_up

STUDY = """
title = "Two rows"
seeds = [0, 1]
methods = ["scratch_adm", "hybrid_ft"]

[sources.isic2018]
targets = ["ph2"]
"""
BEFORE = Path(__file__).parents[1] / "fixtures" / "home_before_identities.tar.xz"
LAMBDA = "pretraining.mask_weight"


@pytest.fixture
def study(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(STUDY)
    return file


@pytest.fixture
def home(tmp_path, empty_database):
    home = open_home(tmp_path / "home")
    shutil.copy(empty_database, home.database)
    return home


def planned(study, home=None, **options):
    return load_plan(str(study), scale="smoke", home=home and home.path, **options)


def run(home, plan, command=None):
    """Store a sweep as `hdsweep run` does, with made-up numbers, and return what it was taken for."""
    with Store.open(home) as store:
        store.begin_sweep(plan, command)
        commit_made_up(store, plan)
        complete = all(each.key in store.finished() for each in store.swept.runs)
        store.note_end(complete=complete)
        write_table(store, table_of(store.swept, store), store.swept)
        store.end_sweep(complete=complete)
        return store.swept.identity


def tables(home):
    return {
        name: json.loads((folder / "table.json").read_text())
        for name, folder in Store.read(home).tables().items()
    }


def values_of(table):
    return {
        (cell["method"], seed): value
        for cell in table["cells"]
        for seed, value in cell["values"].items()
    }


def parents(home):
    """Return the MLflow runs of sweeps, as MLflow itself has them."""
    store = Store.read(home)
    found = store._client.search_runs(
        [store._client.get_experiment_by_name("hdsweep").experiment_id],
        "tags.`hdsweep.kind` = 'sweep'",
    )
    return {each.info.run_name: each for each in found}


# What two sweeps are one of, and what makes another.


@pytest.mark.parametrize(
    "change",
    [
        ('title = "Two rows"', 'title = "Another title"  # and a comment'),
        ("seeds = [0, 1]", "seeds = [0, 1, 2]"),
        ("[sources.isic2018]\n", "[sources.isic2018]\n\n"),
        ('targets = ["ph2"]', 'targets = ["ph2"]\n[pretraining]\nmask_weight = 1e-4'),
        # What the scale overrules has no effect.
        ('targets = ["ph2"]', 'targets = ["ph2"]\n[pretraining]\nupdates = 17'),
    ],
    ids=["title", "seeds", "layout", "default", "overruled"],
)
def test_a_study_that_says_the_same_otherwise_is_the_same_sweep(study, change):
    before = planned(study).identity
    assert change[0] in STUDY
    study.write_text(STUDY.replace(*change))
    assert planned(study).identity == before


@pytest.mark.parametrize(
    "change",
    [
        ('targets = ["ph2"]', 'targets = ["ph2"]\n[pretraining]\nmask_weight = 1e-3'),
        ('targets = ["ph2"]', 'targets = ["ph2", "dermis"]'),
        ('"scratch_adm", "hybrid_ft"', '"scratch_adm", "hybrid_ft", "diffusion_ft"'),
        ("[sources", "[overrides.hybrid_ft.fine_tuning.optimizer]\nlr = 0.5\n\n[sources"),
        ("seeds = [0, 1]", "seeds = [0, 1]\npretraining_seed = 3"),
    ],
    ids=["setting", "target", "method", "override", "pretraining seed"],
)
def test_a_study_of_the_same_name_with_other_rows_or_settings_is_another_sweep(study, change):
    before = planned(study).identity
    assert change[0] in STUDY
    study.write_text(STUDY.replace(*change))
    after = planned(study).identity
    assert after.name == before.name
    assert after.key != before.key


def test_the_same_text_under_another_name_or_scale_is_another_sweep(study, tmp_path):
    other = tmp_path / "yours.toml"
    other.write_text(STUDY)
    assert planned(other).identity.key != planned(study).identity.key
    ours = Path("orchestrator/study/scales/smoke.toml")
    (tmp_path / "small.toml").write_text(ours.read_text())
    small = load_plan(str(study), scale=str(tmp_path / "small.toml")).identity
    assert (small.name, planned(study).identity.name) == ("mine/small", "mine/smoke")
    assert small.key != planned(study).identity.key


def test_a_setting_that_changes_nothing_is_no_difference(study):
    plain = planned(study).identity
    assert planned(study, overrides=[f"{LAMBDA}=1e-4"]).identity == plain
    other = planned(study, overrides=[f"{LAMBDA}=1e-4", f"{LAMBDA}=1e-2"]).identity
    assert other.name == "mine/smoke, mask_weight=0.01"
    assert other.key != plain.key


def test_filters_decide_nothing_of_the_whole(study):
    whole = planned(study).identity
    for filters in ({"methods": "hybrid_ft"}, {"seeds": "1"}, {"methods": "all", "seeds": "1"}):
        part = planned(study, **filters).identity
        assert part.digest == whole.digest
        assert part.key != whole.key
    everything = {"methods": "hybrid_ft,scratch_adm", "targets": "ph2", "seeds": "1,0"}
    assert planned(study, **everything).identity == whole
    part = planned(study, methods="hybrid_ft", seeds="1").identity
    assert part.name == "mine/smoke, only hybrid_ft, seed 1"


def test_what_a_search_found_is_in_the_name_and_in_the_hash(study, home):
    file = answer_file(home.path, "mine")
    file.parent.mkdir(exist_ok=True)
    answer = {"source": "isic2018", "targets": ["ph2"], "trials": 3, "updates": 6}
    keys = set()
    for value in (0.02, 0.03):
        file.write_text(json.dumps({**answer, "settings": {LAMBDA: value}}))
        found = planned(study, home, from_tune="mine")
        assert found.identity.name == f"mine/smoke, isic2018.mask_weight={value}"
        keys.add(found.identity.key)
    assert len(keys) == 2
    # It is planned again with what the search had found then.
    assert planned(study, home, from_tune="mine").recipe.answer["settings"] == {LAMBDA: 0.03}


def test_runs_are_named_by_the_settings_that_they_read(study):
    plan = planned(study, overrides=[f"{LAMBDA}=1e-2", "fine_tuning.train_images=5"])
    names = {each.label: each.name.removeprefix(each.label) for each in plan.runs}
    assert names == {
        "pretrain hybrid isic2018-like": ", mask_weight=0.01",
        "scratch_adm ph2-like seed 0": ", fine_tuning.train_images=5",
        "scratch_adm ph2-like seed 1": ", fine_tuning.train_images=5",
        "hybrid_ft ph2-like seed 0": ", mask_weight=0.01, fine_tuning.train_images=5",
        "hybrid_ft ph2-like seed 1": ", mask_weight=0.01, fine_tuning.train_images=5",
    }


# Names.


def test_names_are_found_however_values_are_written():
    known = {"aaaa0000": "mine/smoke", "bbbb0000": "mine/smoke, mask_weight=0.01"}
    for written in (
        "mine/smoke, mask_weight=1e-2",
        "mine/smoke, pretraining.mask_weight=0.010",
        "#bbbb0000",
        "bbbb0000",
        "mine/smoke, mask_weight=0.01 #bbbb0000",
    ):
        assert find(written, known, where="here") == "bbbb0000"
    assert find("mine/smoke", known, where="here") == "aaaa0000"
    with pytest.raises(InputError, match=r"(?s)unknown sweep `mine/smok`.*there are mine/smoke"):
        find("mine/smok", known, where="here")


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("mine/smoke, multipliers=[1, 2], updates=8", "cccc1111"),
        ("mine/smoke, networks.adm.multipliers=[1,2], pretraining.updates=8", "cccc1111"),
        ("#cccc", "cccc1111"),
        ("mine/smoke, multipliers=[1,2], updates=8 #cccc", "cccc1111"),
        ("#aaaa0000", "aaaa0000"),
        ("#aaaa", "aaaa0000"),  # The whole rather than its subset.
        ("#aaaa0000-1234", "aaaa0000-1234"),
        ("a, b/smoke", "dddd0000"),
        ("x #1/smoke, mask_weight=1e-2", "eeee0000"),
        ("ä=ö/smoke", "ffff0000"),
        ("mine/smoke, mask_weight=1e-1", "bbbb0000"),
        ("mine/smoke, isic2018.mask_weight=1e-1", "bbbb1111"),
        ("mine/smoke, isic2018.pretraining.mask_weight=0.10", "bbbb1111"),
        ("mine/smoke, hybrid_ft.fine_tuning.optimizer.lr=1e-3", "bbbb2222"),
    ],
)
def test_names_are_found_whatever_is_in_them(written, key):
    known = {
        "aaaa0000": "mine/smoke",
        "aaaa0000-1234": "mine/smoke, only hybrid_ft",
        "cccc1111": "mine/smoke, multipliers=[1,2], updates=8",
        "dddd0000": "a, b/smoke",
        "eeee0000": "x #1/smoke, mask_weight=0.01",
        "ffff0000": "ä=ö/smoke",
        "bbbb0000": "mine/smoke, mask_weight=0.1",
        "bbbb1111": "mine/smoke, isic2018.mask_weight=0.1",
        "bbbb2222": "mine/smoke, hybrid_ft.fine_tuning.optimizer.lr=0.001",
    }
    assert looks_like_a_sweep(written)
    assert find(written, known, where="here") == key


@pytest.mark.parametrize("written", ["#abcd", "mine/smoke #abcd"])
def test_a_key_of_which_too_little_is_written_is_asked_for(written):
    known = {"abcd0000": "mine/smoke #abcd0000", "abcd1111": "mine/smoke #abcd1111"}
    with pytest.raises(InputError, match="more than one sweep") as error:
        find(written, known, where="here")
    assert all(name in str(error.value) for name in known.values())


@pytest.mark.parametrize("written", ["mine/demo #aaaa0000", "#aaaa0001", "mine/smoke #before"])
def test_a_key_that_is_another_ones_is_refused(written):
    with pytest.raises(InputError, match="unknown sweep"):
        find(written, {"aaaa0000": "mine/smoke"}, where="here")


def test_reports_of_two_sweeps_never_have_one_folder():
    names = ["ä/smoke", "ö/smoke", "a, b/smoke", "a-b/smoke", "a/b-smoke", "A/b-smoke", "/", "?/*"]
    names += ["mine/smoke, " + "𝔘" * 300 + end for end in "ab"]
    named = {f"{number:08x}": name for number, name in enumerate(names)}
    found = folders(named)
    assert len({each.casefold() for each in found.values()}) == len(names)
    assert all(each and "/" not in each and len(each.encode()) < 250 for each in found.values())
    assert folders({"00000000": "ä/smoke"}) == {"00000000": "ä-smoke"}


def test_two_sweeps_of_one_name_have_their_keys_in_it():
    named = {"aaaa0000": "mine/smoke", "bbbb0000": "mine/smoke", "mine/demo": "mine/demo"}
    known = distinct(named)
    assert sorted(known.values()) == ["mine/demo", "mine/smoke #aaaa0000", "mine/smoke #bbbb0000"]
    with pytest.raises(InputError, match="is more than one sweep"):
        find("mine/smoke", known, where="here")
    assert find("mine/smoke #bbbb0000", known, where="here") == "bbbb0000"


def test_names_survive_shells_and_file_systems():
    assert canonical("a/b, x.y=[1, 2]".replace(", 2", ",2")) == "a/b, x.y=[1,2]"
    assert (
        slug("mine/smoke, mask_weight=0.01 #aaaa0000") == "mine-smoke-mask_weight=0.01-#aaaa0000"
    )


# What is stored.


def test_a_filtered_run_completes_the_whole_and_never_takes_its_place(study, home):
    whole = planned(study, home)
    run(home, whole)
    before = tables(home)
    part = planned(study, home, methods="hybrid_ft", seeds="1")
    assert run(home, part) == whole.identity
    after = tables(home)
    assert after.keys() == before.keys() == {"mine/smoke"}
    assert values_of(after["mine/smoke"]) == values_of(before["mine/smoke"])
    (parent,) = parents(home).values()
    assert parent.data.tags["hdsweep.planned"] == str(len(whole.runs))
    assert parent.info.status == "FINISHED"


def test_a_part_of_nothing_is_a_subset_and_the_whole_takes_it_in(study, home):
    part = planned(study, home, methods="hybrid_ft")
    assert run(home, part).subset == ("hybrid_ft",)
    assert [*tables(home)] == ["mine/smoke, only hybrid_ft"]
    (parent,) = parents(home).values()
    assert parent.data.tags["hdsweep.subset"] == "true"
    assert parent.info.run_name == "Two rows (smoke, only hybrid_ft)"
    run(home, planned(study, home))
    assert sorted(tables(home)) == ["mine/smoke", "mine/smoke, only hybrid_ft"]
    found = parents(home)
    whole = found["Two rows (smoke)"].info.run_id
    assert found["Two rows (smoke, only hybrid_ft)"].data.tags["mlflow.parentRunId"] == whole
    above = {each.tags["mlflow.parentRunId"] for each in Store.read(home).finished().values()}
    assert above == {whole}


def test_four_combinations_of_two_settings_are_four_sweeps(study, home):
    for weight, images in itertools.product(("1e-3", "1e-2"), (4, 5)):
        settings = [f"{LAMBDA}={weight}", f"fine_tuning.train_images={images}"]
        run(home, planned(study, home, overrides=settings))
    expected = {
        f"mine/smoke, mask_weight={weight}, fine_tuning.train_images={images}"
        for weight in (0.001, 0.01)
        for images in (4, 5)
    }
    assert set(tables(home)) == expected
    store = Store.read(home)
    everything = store._client.search_runs(["1", "0"], max_results=1000)
    names = [each.info.run_name for each in everything]
    assert len(names) == len(set(names))
    kinds = [each.data.tags["hdsweep.kind"] for each in everything]
    assert (kinds.count("sweep"), kinds.count("summary")) == (4, 8)


def test_a_changed_study_file_leaves_the_table_of_the_old_one(study, home):
    run(home, planned(study, home))
    first = tables(home)["mine/smoke"]
    study.write_text(f"{STUDY}\n[pretraining]\nmask_weight = 0.5\n")
    run(home, planned(study, home))
    found = tables(home)
    assert len(found) == 2
    assert all(name.startswith("mine/smoke #") for name in found)
    assert first in found.values()
    names = sorted(parents(home))
    assert names[0] == "Two rows (smoke)"
    assert names[1].startswith("Two rows (smoke) #")


def test_a_changed_study_file_is_told_from_what_is_stored(study, home):
    run(home, planned(study, home))
    study.write_text(study.read_text() + "\n[pretraining]\nmask_weight = 0.5\n")
    for verb in ("status", "report"):
        _, err = hdsweep(verb, study, "--scale", "smoke", home=home.path, exit_code=2)
        assert "`mine/smoke` at" in err
        assert "is another sweep: its settings or rows are not those of the study as it is" in err
        assert "`mine/smoke` instead of the study shows what is stored" in err
    out, _ = hdsweep("status", "mine/smoke", "--json", home=home.path)
    assert document(out)["finished"] == 5


def test_seeds_that_a_study_lists_no_more_stay_in_the_table(study, home):
    study.write_text(STUDY.replace("[0, 1]", "[0, 1, 2]"))
    run(home, planned(study, home))
    study.write_text(STUDY.replace("[0, 1]", "[0, 3]"))
    run(home, planned(study, home))
    (table,) = tables(home).values()
    assert {seed for _, seed in values_of(table)} == {"0", "1", "2", "3"}


def test_a_stored_sweep_is_planned_by_name_though_its_file_is_gone(study, home):
    plan = planned(study, home, overrides=[f"{LAMBDA}=1e-2"])
    run(home, plan)
    study.unlink()
    for written in ("mine/smoke, mask_weight=1e-2", f"#{plan.identity.key}"):
        again = asked_plan(written, home.path)
        assert [each.key for each in again.runs] == [each.key for each in plan.runs]
        assert again.identity == plan.identity
    part = asked_plan("mine/smoke, mask_weight=0.01", home.path, methods="hybrid_ft")
    assert whole_of(part, home.path).table == plan.table
    with pytest.raises(InputError, match="unknown sweep `mine/demo`"):
        asked_plan("mine/demo", home.path)
    with pytest.raises(InputError, match="--set goes with a study"):
        asked_plan(f"#{plan.identity.key}", home.path, overrides=["pretraining.updates=3"])


def test_a_subset_is_not_asked_for_what_is_not_in_it(study, home):
    run(home, planned(study, home, seeds="0"))
    part = asked_plan("mine/smoke, only seed 0", home.path, methods="hybrid_ft", seeds="0")
    assert part.identity.subset == ("hybrid_ft", "seed 0")
    with pytest.raises(InputError, match="`mine/smoke, only seed 0` has no seeds 1") as error:
        asked_plan("mine/smoke, only seed 0", home.path, seeds="0,1")
    assert "name the whole, `mine/smoke`" in str(error.value)


def test_a_part_and_the_whole_are_the_same_as_far_as_both_go(study, home):
    for methods, seeds in (("hybrid_ft", None), (None, "0")):
        run(home, planned(study, home, methods=methods, seeds=seeds))
    run(home, planned(study, home))
    ends = {
        "mine/smoke": "every value is the same to the last bit",
        "mine/smoke, only hybrid_ft": "every value that both have is the same to the last bit; "
        "the rest is on one side only",
    }
    for name, end in ends.items():
        status = 0 if name == "mine/smoke" else 1
        out, _ = hdsweep("compare", "mine/smoke", name, home=home.path, exit_code=status)
        assert out.splitlines()[-1] == end


def test_verbs_take_names_and_a_report_of_a_part_has_a_place_of_its_own(study, home):
    name = "mine/smoke, mask_weight=0.01"
    run(home, planned(study, home))
    run(home, planned(study, home, overrides=[f"{LAMBDA}=1e-2"]))
    out, _ = hdsweep("status", name, "--json", home=home.path)
    status = document(out)
    assert (status["sweep"]["name"], status["finished"]) == (name, 5)
    for asked in ([], ["--methods", "hybrid_ft"]):
        hdsweep("report", name, *asked, home=home.path)
    folder = home.path / "reports" / "mine-smoke-mask_weight=0.01"
    whole = json.loads((folder / "table.json").read_text())
    part = json.loads((folder / "subset-hybrid_ft" / "table.json").read_text())
    assert (len(whole["cells"]), len(part["cells"])) == (2, 1)
    assert part["sweep"]["name"] == f"{name}, only hybrid_ft"
    out, _ = hdsweep("compare", "mine/smoke", name, "--json", home=home.path, exit_code=1)
    assert document(out)["b"]["sweep"]["name"] == name
    _, err = hdsweep("compare", "mine/smoke", "mine/demo", home=home.path, exit_code=2)
    assert "there are mine/smoke; mine/smoke, mask_weight=0.01" in err
    _, err = hdsweep("reproduce", "hybrid_ft/ph2/1", home=home.path, exit_code=2)
    assert "is another run in each of `mine/smoke`; `mine/smoke, mask_weight=0.01`" in err
    _, err = hdsweep("reproduce", "hybrid_ft/x/1", home=home.path, exit_code=2)
    assert "no sweep has a cell `hybrid_ft/x/1`" in err
    assert "looked into `mine/smoke`; `mine/smoke, mask_weight=0.01`" in err


# A lost database.


def snapshot(home):
    """Return all of MLflow that is to be there again: names, tags that are ours, last values, states."""
    store = Store.read(home)
    experiment = store._client.get_experiment_by_name("hdsweep").experiment_id
    found = store._client.search_runs([experiment], max_results=1000)
    names = {each.info.run_id: each.info.run_name for each in found}
    return {
        (
            each.info.run_name,
            each.info.status,
            names.get(each.data.tags.get("mlflow.parentRunId")),
            tuple(sorted((k, v) for k, v in each.data.metrics.items())),
            tuple(sorted((k, v) for k, v in each.data.params.items())),
            tuple(
                sorted(
                    (k, v)
                    for k, v in each.data.tags.items()
                    if k.startswith("hdsweep.") or k == "mlflow.note.content"
                )
            ),
        )
        for each in found
    }


def test_a_rebuilt_database_has_all_that_the_lost_one_had(study, home):
    run(home, planned(study, home), "hdsweep run mine.toml --scale smoke")
    run(home, planned(study, home, overrides=[f"{LAMBDA}=1e-2"], methods="hybrid_ft"))
    with Store.open(home) as store:
        search = store.begin_group("search/mine", "tune", {"hdsweep.search": "mine"})
        store.begin_group("search/mine/0", "trial 0", {}, parent=search, params={"lambda": 0.1})
        store.log_to_group("search/mine/0", {"value": 81.5}, step=2)
        store.log_to_group("search/mine/0", {"value": 82.5}, step=6)
        store.note_use("search/mine/0", [planned(study, home).runs[0].key], step=0)
        store.end_group("search/mine/0", "FINISHED", {"hdsweep.state": "COMPLETE"})
        store.end_group("search/mine", "FINISHED", {})
        (store.folder_of_group("search/mine") / "answer.md").write_text("# found")
    before, told = snapshot(home), tables(home)
    home.database.unlink()
    study.unlink()
    moved = open_home(home.path.rename(home.path.with_name("moved")))
    made = rebuild(moved, None, pytest.fail)
    assert (made.runs, made.searches) == (8, ("mine",))
    assert made.sweeps == ("mine/smoke", "mine/smoke, mask_weight=0.01, only hybrid_ft")
    assert snapshot(moved) == before
    assert tables(moved) == told
    assert len(list(moved.artifacts.glob("*/artifacts/report.html"))) == 2
    assert [f.read_text() for f in moved.artifacts.glob("*/artifacts/answer.md")] == ["# found"]
    # Nothing is left that no run of MLflow points at.
    known = {each.info.run_id for each in parents(moved).values()}
    assert {f.parents[1].name for f in moved.artifacts.glob("*/*/sweep.json")} == known


# A home of the version before.


@pytest.fixture
def old(tmp_path):
    with tarfile.open(BEFORE) as archive:
        archive.extractall(tmp_path, filter="data")
    for name in ("two_rows", "other_rows"):
        (tmp_path / f"{name}.toml").write_text(STUDY)
    return open_home((tmp_path / "old_home").rename(tmp_path / "home"))


def test_an_old_home_is_read_as_it_was(old):
    store = Store.read(old)
    assert sorted(store.tables()) == ["other_rows/smoke", "two_rows/smoke"]
    assert len(store.finished()) == 8


@pytest.mark.parametrize("methods", [None, "hybrid_ft"])
def test_an_old_sweep_goes_on_as_what_it_was(old, tmp_path, methods):
    plan = planned(tmp_path / "two_rows.toml", old, methods=methods)
    assert plan.runs[-1].key in Store.read(old).finished()
    before = tables(old)["two_rows/smoke"]
    with Store.open(old) as store:
        store.begin_sweep(plan)
        assert store.swept.identity == plan.identity.whole
        write_table(store, table_of(store.swept, store), store.swept)
        store.end_sweep(complete=True)
    assert len(Store.read(old).sweeps.names()) == 2
    assert [each.identity.name for each in every(old).values()] == ["two_rows/smoke"]
    assert values_of(tables(old)["two_rows/smoke"]) == values_of(before)


def test_an_old_sweep_of_other_settings_stays_beside_the_new_one(old, tmp_path):
    plan = planned(tmp_path / "other_rows.toml", old)
    before = tables(old)["other_rows/smoke"]
    run(old, plan)
    found = tables(old)
    assert found["other_rows/smoke #before"] == before
    new = found[f"other_rows/smoke #{plan.identity.key}"]
    keys = [{each["method"]: each["keys"] for each in table["cells"]} for table in (before, new)]
    assert keys[0]["scratch_adm"] == keys[1]["scratch_adm"]
    assert keys[0]["hybrid_ft"] != keys[1]["hybrid_ft"]


def test_an_old_sweep_with_settings_is_found_by_who_has_the_same(old, tmp_path):
    plan = planned(tmp_path / "other_rows.toml", old, overrides=[f"{LAMBDA}=0.5"])
    with Store.open(old) as store:
        store.begin_sweep(plan)
        assert {each.key for each in store.swept.runs} <= store.finished().keys()
    assert sorted(tables(old)) == ["other_rows/smoke, mask_weight=0.5", "two_rows/smoke"]


@pytest.mark.parametrize("left", ["no table", "no keys", "a row that reads nothing of it"])
def test_an_old_sweep_that_does_not_tell_its_settings_is_the_study_as_it_is(old, tmp_path, left):
    file = Store.read(old).tables()["two_rows/smoke"] / "table.json"
    content = json.loads(file.read_text())
    if left == "no keys":
        content["cells"] = [{**cell, "keys": {}} for cell in content["cells"]]
    if left == "a row that reads nothing of it":
        content["cells"] = [cell for cell in content["cells"] if cell["method"] == "scratch_adm"]
    file.write_text(json.dumps(content) if left != "no table" else "")
    was = Store.read(old).sweeps.folder("two_rows/smoke")
    run(old, planned(tmp_path / "two_rows.toml", old, overrides=[f"{LAMBDA}=0.5"]))
    names = Store.read(old).sweeps.names()
    assert "two_rows/smoke" in names
    assert Store.read(old).sweeps.folder("two_rows/smoke") == was
    plain = planned(tmp_path / "two_rows.toml", old)
    run(old, plain)
    assert Store.read(old).sweeps.folder(plain.identity.key) == was
    assert set(names.values()) == set(Store.read(old).sweeps.names().values())


def test_an_old_database_is_rebuilt_with_tables_and_means(old):
    before, values = snapshot(old), {n: values_of(t) for n, t in tables(old).items()}
    old.database.unlink()
    moved = open_home(old.path.rename(old.path.with_name("moved")))
    told = []
    made = rebuild(moved, None, told.append)
    assert (made.runs, made.sweeps) == (8, ("other_rows/smoke", "two_rows/smoke"))
    # Studies of somebody's own were not stored then: what their tables say is kept.
    assert len(told) == 2
    assert {n: values_of(t) for n, t in tables(moved).items()} == values
    # What they are called in MLflow has changed since: by the dataset, `ph2-like`.
    summaries = sorted(row[3] for row in before if row[0].endswith("(mean)"))
    assert len(summaries) == 4
    assert sorted(row[3] for row in snapshot(moved) if row[0].endswith("(mean)")) == summaries
    assert len(list(moved.artifacts.glob("*/artifacts/report.html"))) == 2
