"""`hdsweep weights`: real encoders with random numbers in them, from files, folders and a server."""

import functools
import hashlib
import http.server
import json
import re
import shutil
import threading
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import resnet50
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import InputError
from orchestrator.plan.backbones import BACKBONES
from orchestrator.plan.plan import load_plan
from orchestrator.report.cells import make_table
from orchestrator.report.verdicts import verdict
from orchestrator.store.home.home import open_home
from orchestrator.verbs.weights import fetch_weights, import_weights, listed, render_report
from tests.documents import document
from trainables.config import DeepLabConfig
from trainables.networks import build, weights
from trainables.networks.weights import load_backbone


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A file as torchvision publishes it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("published") / "resnet50.pth"
    torch.save(resnet50(weights=None).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A folder as the Hugging Face Hub has it, written by transformers itself."""
    from transformers import SegformerConfig, SegformerForImageClassification

    folder = tmp_path_factory.mktemp("mit-b3")
    config = SegformerConfig(depths=[3, 4, 18, 3], hidden_sizes=[64, 128, 320, 512])
    SegformerForImageClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture
def home(tmp_path):
    return open_home(tmp_path / "home")


def test_what_is_imported_is_what_the_network_then_loads(resnet, home):
    report = import_weights("resnet50", resnet, home)
    assert report.unexpected == ("fc.bias", "fc.weight")
    assert "not used: fc.bias, fc.weight" in render_report(report)
    network = build(DeepLabConfig(), 2)
    load_backbone(network, home.weights / "resnet50.safetensors")
    published = torch.load(resnet, weights_only=True)
    for name, tensor in network.encoder.state_dict().items():
        assert torch.equal(tensor, published[name]), name


def cli(*arguments):
    done = CliRunner().invoke(app, ["weights", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done


def test_importing_says_which_file_it_was_and_what_came_of_it(resnet, home):
    digest = hashlib.sha256(resnet.read_bytes()).hexdigest()
    done = cli("import", "resnet50", resnet, "--home", home.path, "--json")
    assert f"sha256 {digest}, stored as " in done.stderr
    assert "318 tensors of the encoder loaded" in done.stderr  # Of ResNet-50, but for fc.
    assert "stay random: model.classifier (" in done.stderr
    assert "not the published file; no number built on it" in done.stderr
    record = document(done.stdout)
    assert (record["source_sha256"], record["published"]) == (digest, False)
    (stored, _) = listed(home.path)
    assert record["sha256"] == stored["sha256"] != digest


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(resnet, home, tmp_path, value):
    state = torch.load(resnet, weights_only=True)
    state["layer3.2.conv1.weight"][3, 4] = value
    torch.save(state, tmp_path / "diverged.pth")
    message = r"diverged\.pth has NaN or infinity in 1 tensors of the encoder: layer3\.2\.conv1"
    with pytest.raises(InputError, match=message):
        import_weights("resnet50", tmp_path / "diverged.pth", home)
    assert listed(home.path)[0]["file"] is None


def test_the_published_resnet_is_the_one_that_torchvision_names():
    from torchvision.models import ResNet50_Weights

    (known,) = BACKBONES["deeplab"].published
    assert re.search(r"-([0-9a-f]{8})\.pth", ResNet50_Weights.IMAGENET1K_V1.url)[1] == known[:8]
    assert len(known) == 64


DEEPLABS = {"i1k_deeplab", "i1k_sup_deeplab"}


def test_rows_on_a_file_that_is_not_the_published_one_are_not_compared(resnet, home, monkeypatch):
    digest = hashlib.sha256(resnet.read_bytes()).hexdigest()
    import_weights("resnet50", resnet, home)
    plan = load_plan("table2", home=home.path)
    assert plan.other_weights == dict.fromkeys(DEEPLABS, digest)
    table = make_table(plan, {})
    words = {m: {verdict(cell).word for cell in table.row(m)} for m in table.methods}
    assert words["i1k_deeplab"] == words["i1k_sup_deeplab"] == {"not comparable"}
    assert words["hybrid_ft"] == {"missing"}
    told = "‡ i1k_deeplab starts from other than the published ImageNet weights, not comparable"
    assert any(note.startswith(told) and digest[:16] in note for note in table.notes)
    assert table.label("i1k_deeplab").endswith(" ‡")
    assert not table.label("hybrid_ft").endswith(" ‡")

    # The same file, were it the one that is published.
    backbone = replace(BACKBONES["deeplab"], published=(digest,))
    monkeypatch.setitem(BACKBONES, "deeplab", backbone)
    published = load_plan("table2", home=home.path)
    assert published.other_weights == {}
    assert [run.key for run in published.runs] == [run.key for run in plan.runs]
    # Exchanged behind our back, what is noted about it no longer holds.
    stored = home.weights / "resnet50.safetensors"
    state = load_file(stored)
    state["conv1.weight"][0, 0, 0, 0] += 1
    save_file(state, stored)
    assert set(load_plan("table2", home=home.path).other_weights) == DEEPLABS


def test_what_is_fetched_from_where_it_is_published_is_taken_for_it(
    hub, home, server, monkeypatch
):
    url, served = server
    shutil.copy(hub / "model.safetensors", served / "model.safetensors")
    fetch_weights("mit_b3", home, url=f"{url}/model.safetensors")
    assert listed(home.path)[1]["published"] is False  # A mirror may hold anything.
    monkeypatch.setattr(weights, "published_url", lambda _: f"{url}/model.safetensors")
    fetch_weights("mit_b3", home)
    assert listed(home.path)[1]["published"] is True


def test_a_plan_names_the_weights_that_are_missing(home, resnet):
    def planned():
        done = CliRunner().invoke(app, ["plan", "table2", "--home", str(home.path)])
        assert done.exit_code == 0, done.output
        return " ".join(done.stdout.split())

    for name in ("resnet50", "mit_b3"):
        assert f"no ImageNet weights {name}, which i1k_" in planned()
        assert f"hdsweep weights fetch {name}" in planned()
    import_weights("resnet50", resnet, home)
    assert "no ImageNet weights resnet50" not in planned()
    assert "no ImageNet weights mit_b3" in planned()
    assert "i1k_deeplab starts from other than the published" in planned()


def test_a_folder_of_the_hub_is_imported(hub, home):
    report = import_weights("mit_b3", hub, home)
    assert report.unexpected == ("classifier.bias", "classifier.weight")
    stored = load_file(home.weights / "mit_b3.safetensors")
    assert len(stored) == len(report.loaded) > 600
    assert listed(home.path)[1]["bytes"] > 100e6


def test_the_same_tensors_give_the_same_checksum_whatever_they_came_in(resnet, home, tmp_path):
    import_weights("resnet50", resnet, home)
    first = listed(home.path)[0]["sha256"]
    other = tmp_path / "other.safetensors"
    state = torch.load(resnet, weights_only=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, other)
    import_weights("resnet50", other, home)
    assert listed(home.path)[0]["sha256"] == first


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("layer1.0.conv1.weight"), "lacks 1 tensors of the encoder"),
        (
            lambda state: state.update({"conv1.weight": torch.zeros(64, 1, 7, 7)}),
            "does not fit the encoder: conv1.weight is",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused_and_what_was_there_stays(
    resnet, home, tmp_path, spoil, message
):
    import_weights("resnet50", resnet, home)
    before = listed(home.path)
    state = torch.load(resnet, weights_only=True)
    spoil(state)
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(InputError, match=message):
        import_weights("resnet50", tmp_path / "bad.pth", home)
    assert listed(home.path) == before


def test_a_pickle_that_would_run_code_is_refused(home, tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="damaged or holds more than tensors"):
        import_weights("resnet50", tmp_path / "evil.pth", home)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "has no file that ends in"),
        (["a.bin", "b.bin"], r"several weight files, name one: a\.bin, b\.bin"),
    ],
)
def test_folders_without_one_weight_file_are_refused(home, tmp_path, files, message):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in files:
        (folder / name).touch()
    with pytest.raises(InputError, match=message):
        import_weights("mit_b3", folder, home)


@pytest.fixture
def server(tmp_path):
    """The address of a folder served on this machine, and the folder."""
    served = tmp_path / "served"
    served.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", served
        running.shutdown()


def test_weights_are_fetched_checked_and_stored(resnet, home, server):
    url, served = server
    digits = hashlib.sha256(resnet.read_bytes()).hexdigest()[:8]
    (served / f"resnet50-{digits}.pth").write_bytes(resnet.read_bytes())
    fetch_weights("resnet50", home, url=f"{url}/resnet50-{digits}.pth")
    assert listed(home.path)[0]["file"] == "resnet50.safetensors"
    (served / "resnet50-00000000.pth").write_bytes(resnet.read_bytes())
    with pytest.raises(InputError, match=rf"has the checksum {digits}\w+, not 00000000"):
        fetch_weights("resnet50", home, url=f"{url}/resnet50-00000000.pth")
    assert sorted(path.name for path in home.weights.iterdir()) == [
        "resnet50.safetensors",
        "resnet50.safetensors.origin.json",
        "resnet50.safetensors.sha256.json",
    ]


def test_without_a_network_it_says_what_else_would_do(home, server):
    url, _ = server
    with pytest.raises(
        InputError, match=r"(?s)cannot download .*not found.*weights import mit_b3"
    ):
        fetch_weights("mit_b3", home, url=f"{url}/pytorch_model.bin")


def names(plan):
    return set(plan.methods)


def test_rows_without_weights_run_under_other_names_only_if_asked(home, resnet):
    asked = load_plan("table2", home=home.path, allow_random_backbone=True)
    assert {"random_deeplab", "random_sup_deeplab"} <= names(asked)
    assert not any(method.startswith("i1k") for method in asked.methods)
    assert not any(run.needs_backbone for run in asked.runs)
    assert len(asked.runs) == 180
    import_weights("resnet50", resnet, home)
    some = load_plan("table2", home=home.path, allow_random_backbone=True)
    assert {"i1k_deeplab", "i1k_sup_deeplab", "random_segformer"} <= names(some)
    plain = load_plan("table2", home=home.path)
    assert not any(method.startswith("random") for method in plain.methods)


def test_other_weights_are_other_runs(home, resnet, tmp_path):
    import_weights("resnet50", resnet, home)
    first = {run.label: run.key for run in load_plan("table2", home=home.path).runs}
    state = torch.load(resnet, weights_only=True)
    state["conv1.weight"][0, 0, 0, 0] += 1
    torch.save(state, tmp_path / "other.pth")
    import_weights("resnet50", tmp_path / "other.pth", home)
    second = {run.label: run.key for run in load_plan("table2", home=home.path).runs}
    changed = {label for label, key in first.items() if second[label] != key}
    assert changed == {label for label in first if "deeplab" in label}


def test_the_list_is_for_machines_too(home):
    records = json.loads(json.dumps(listed(home.path)))
    assert [record["name"] for record in records] == ["resnet50", "mit_b3"]
    assert records[0]["rows"] == ["i1k_deeplab", "i1k_sup_deeplab"]
    assert records[0]["file"] is None
