"""Checkpoints survive torn writes, flipped bits and kills between any two steps."""

import pickle

import pytest
import torch

from trainables import checkpoint
from trainables.execute import LEAST_INTERVAL, MOST_INTERVAL, checkpoint_interval


@pytest.fixture
def two_saved(tmp_path):
    for update in (3, 7):
        checkpoint.save(tmp_path, update, {"update": update, "weights": torch.full((50,), update)})
    return tmp_path


def newest(folder):
    state = checkpoint.load_newest(folder)
    return None if state is None else state["update"]


def test_the_newest_is_loaded(two_saved):
    assert newest(two_saved) == 7


def test_only_the_newest_two_are_kept(two_saved):
    checkpoint.save(two_saved, 9, {"update": 9})
    assert checkpoint.saved_updates(two_saved) == [7, 9]
    assert len(list(two_saved.iterdir())) == 4


@pytest.mark.parametrize("kept", [0, 1, 0.5, -1])
def test_a_truncated_newest_falls_back_to_the_one_before(two_saved, kept):
    payload = two_saved / "000000007.pt"
    whole = payload.read_bytes()
    size = int(len(whole) * kept) if isinstance(kept, float) else kept
    payload.write_bytes(whole[:size])
    assert newest(two_saved) == 3


def test_every_flipped_byte_is_noticed(two_saved):
    payload = two_saved / "000000007.pt"
    whole = bytearray(payload.read_bytes())
    for position in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        payload.write_bytes(damaged)
        assert newest(two_saved) == 3, f"bit flip at byte {position} was loaded"


def test_a_payload_without_its_record_does_not_exist(two_saved):
    (two_saved / "000000007.json").unlink()
    assert newest(two_saved) == 3


def test_a_damaged_record_counts_as_none(two_saved):
    (two_saved / "000000007.json").write_text('{"bytes": 1')
    assert newest(two_saved) == 3


def test_no_checkpoint_at_all(tmp_path):
    assert newest(tmp_path / "never") is None


def test_a_pickle_that_would_run_code_is_not_run(two_saved, tmp_path_factory):
    marker = tmp_path_factory.mktemp("marker") / "ran"

    class Attack:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    payload = two_saved / "000000007.pt"
    torch.save({"update": Attack()}, payload)
    record = f'{{"bytes": {payload.stat().st_size}, "sha256": "{checkpoint.sha256_of(payload)}"}}'
    payload.with_suffix(".json").write_text(record)
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.load_newest(two_saved)
    assert not marker.exists()


def test_the_interval_loses_least_time_to_checkpoints_and_to_work_done_again():
    cost, to_loss = 4.0, 4 * 3600.0
    interval = checkpoint_interval(cost, to_loss=to_loss)
    assert interval == pytest.approx(339.4, abs=0.1)

    def lost(every):  # Seconds per second of training, to first order: Young 1974.
        return cost / every + every / (2 * to_loss)

    assert lost(interval) < min(lost(0.9 * interval), lost(1.1 * interval))
    assert checkpoint_interval(0.0) == LEAST_INTERVAL
    assert checkpoint_interval(3600.0) == MOST_INTERVAL
