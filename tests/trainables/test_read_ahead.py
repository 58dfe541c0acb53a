"""Reading ahead gives what reading would have given, whatever is asked for."""

import threading

import pytest

from trainables.data.feeding.ahead import ReadAhead


def reader(ahead, end=5):
    read = []

    def one(number):
        read.append((number, threading.current_thread() is threading.main_thread()))
        if number == 3:
            raise ValueError("batch 3 is broken")
        return number * 10

    return ReadAhead(one, end=end, ahead=ahead), read


def test_batches_come_as_asked_and_the_next_is_read_by_another_thread():
    batches, read = reader(ahead=True, end=3)
    assert [batches(number) for number in range(3)] == [0, 10, 20]
    assert read == [(0, True), (1, False), (2, False)]  # Nothing beyond the end.


def test_a_jump_as_after_a_resume_reads_the_right_one():
    batches, _ = reader(ahead=True)
    assert batches(0) == 0
    assert batches(4) == 40
    assert batches(1) == 10


def test_an_error_arrives_with_the_batch_that_is_broken_and_not_before():
    batches, _ = reader(ahead=True)
    assert batches(2) == 20
    with pytest.raises(ValueError, match="batch 3 is broken"):
        batches(3)
    assert batches(4) == 40


def test_without_it_only_what_is_asked_for_is_read():
    batches, read = reader(ahead=False)
    assert [batches(0), batches(2)] == [0, 20]
    assert read == [(0, True), (2, True)]
