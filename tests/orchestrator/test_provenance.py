"""Which code made a result, in a checkout made here, by git itself."""

import subprocess

import pytest

from orchestrator import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Return a function that calls git in a checkout with one committed module."""
    monkeypatch.setattr(provenance, "SOURCES", tmp_path)

    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    (tmp_path / "trainables").mkdir()
    (tmp_path / "trainables/loop.py").write_text("steps = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    return git


def changes():
    return provenance.changes.__wrapped__()


def test_as_committed_nothing_differs(checkout):
    assert changes() == ""


def test_the_patch_brings_changed_and_new_modules_back(checkout, tmp_path):
    loop, fresh = tmp_path / "trainables/loop.py", tmp_path / "trainables/methods/mine.py"
    fresh.parent.mkdir()
    loop.write_text("steps = 2\n")
    fresh.write_text("METHODS = ()\n")
    (tmp_path / "trainables/secret.env").write_text("TOKEN=1\n")
    (tmp_path / "notes.py").write_text("mine = 1\n")
    patch = changes()
    assert "TOKEN" not in patch
    assert "notes" not in patch
    loop.write_text("steps = 1\n")
    fresh.unlink()
    (tmp_path / "a.patch").write_text(f"{patch}\n")
    checkout("apply", "a.patch")
    assert (loop.read_text(), fresh.read_text()) == ("steps = 2\n", "METHODS = ()\n")


def test_outside_a_checkout_nothing_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "SOURCES", tmp_path)
    assert changes() == ""
