"""`hdsweep weights`: real encoders with random numbers in them, from files, folders and a server."""

import functools
import http.server
import json
import threading

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import resnet50

from orchestrator.errors import InputError
from orchestrator.home import open_home
from orchestrator.plan import load_plan
from orchestrator.weights import fetch_weights, import_weights, listed, render_report
from trainables.config import DeepLabConfig
from trainables.networks import build
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
    import hashlib

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
