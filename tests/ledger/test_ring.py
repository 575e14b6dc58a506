"""The ring: records come out as they went in, whoever is killed when."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.ring import Ring
from market.errors import Corrupt
from market.events import EVENT_DTYPE

PAIR = np.dtype([("number", np.int64), ("check", np.uint64)], align=True)


def pairs(first, count):
    records = np.zeros(count, PAIR)
    records["number"] = np.arange(first, first + count)
    records["check"] = records["number"].astype(np.uint64) * np.uint64(7)
    return records


def test_records_come_out_once_in_order_and_whole(tmp_path):
    producer = Ring.create(tmp_path / "a.ring", PAIR, 8)
    consumer = Ring(tmp_path / "a.ring", PAIR)
    assert producer.push(pairs(0, 3))
    assert producer.push(pairs(3, 1)[0])
    assert consumer.pending_count() == 4
    assert (consumer.drain(3) == pairs(0, 3)).all()
    assert (consumer.drain(3) == pairs(3, 1)).all()
    assert consumer.drain(3).shape == (0,)


def test_a_push_is_all_or_nothing_and_a_full_ring_loses_nothing(tmp_path):
    producer = Ring.create(tmp_path / "a.ring", PAIR, 4)
    consumer = Ring(tmp_path / "a.ring", PAIR)
    assert producer.push(pairs(0, 3))
    assert not producer.push(pairs(3, 2))
    assert producer.free_count() == 1
    assert producer.push(pairs(3, 1))
    assert not producer.push(pairs(4, 1))
    assert producer.slot() is None
    assert (consumer.drain(9) == pairs(0, 4)).all()
    assert producer.push(pairs(4, 4))
    assert (consumer.drain(9) == pairs(4, 4)).all()


def test_a_slot_filled_in_place_is_seen_only_after_its_commit(tmp_path):
    producer = Ring.create(tmp_path / "a.ring", PAIR, 2)
    consumer = Ring(tmp_path / "a.ring", PAIR)
    for number in range(5):
        slot = producer.slot()
        assert slot is not None
        assert slot.shape == (1,)
        slot["number"] = number
        assert consumer.pending_count() == 0
        producer.commit()
        assert consumer.drain(9)["number"].tolist() == [number]


def test_what_was_read_and_not_released_is_read_again_by_the_next_process(tmp_path):
    producer = Ring.create(tmp_path / "a.ring", PAIR, 8)
    producer.push(pairs(0, 5))
    consumer = Ring(tmp_path / "a.ring", PAIR)
    consumer.read(2)
    consumer.release()
    assert consumer.read(9)["number"].tolist() == [2, 3, 4]
    assert producer.free_count() == 5
    assert Ring(tmp_path / "a.ring", PAIR).read(9)["number"].tolist() == [2, 3, 4]


def test_a_new_producer_goes_on_where_the_old_one_was_killed(tmp_path):
    Ring.create(tmp_path / "a.ring", PAIR, 8).push(pairs(0, 2))
    again = Ring(tmp_path / "a.ring", PAIR)
    assert again.head == 2
    again.push(pairs(2, 1))
    assert Ring(tmp_path / "a.ring", PAIR).drain(9)["number"].tolist() == [0, 1, 2]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=60))
def test_any_pushes_and_reads_are_those_of_a_queue(tmp_path_factory, turns):
    path = tmp_path_factory.mktemp("ring") / "a.ring"
    producer, consumer, queue, made = Ring.create(path, PAIR, 5), Ring(path, PAIR), [], 0
    for push_count, read_max in turns:
        is_pushed = producer.push(pairs(made, push_count))
        assert is_pushed == (len(queue) + push_count <= 5)
        if is_pushed:
            queue += range(made, made + push_count)
            made += push_count
        taken = consumer.drain(read_max)
        assert taken["number"].tolist() == queue[:read_max]
        assert (taken["check"] == taken["number"].astype(np.uint64) * np.uint64(7)).all()
        del queue[:read_max]
        assert (producer.head, producer.tail) == (made, made - len(queue))


def test_a_record_with_fields_and_padding_keeps_every_byte(tmp_path):
    ring = Ring.create(tmp_path / "a.ring", EVENT_DTYPE, 3)
    noise = random.Random(1).randbytes(EVENT_DTYPE.itemsize * 2)
    ring.push(np.frombuffer(noise, EVENT_DTYPE))
    assert Ring(tmp_path / "a.ring", EVENT_DTYPE).drain(9).tobytes() == noise


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(b""), "cannot mmap an empty file"),
        (lambda path: path.write_bytes(bytes(64)), "no ring"),
        (lambda path: path.write_bytes(bytes(400)), "magic"),
        (lambda path: os.truncate(path, 200), "cannot hold"),
        (lambda path: overwrite(path, 64, 99), "head 99 and tail 0"),
        (lambda path: overwrite(path, 128, 3), "head 0 and tail 3"),
    ],
)
def test_a_file_that_is_no_ring_is_refused(tmp_path, damage, told):
    path = tmp_path / "a.ring"
    Ring.create(path, PAIR, 4)
    damage(path)
    with pytest.raises(Corrupt, match=told):
        Ring(path, PAIR)


def test_a_ring_of_other_records_is_refused(tmp_path):
    Ring.create(tmp_path / "a.ring", PAIR, 4)
    with pytest.raises(Corrupt, match=f"and {EVENT_DTYPE.itemsize} bytes"):
        Ring(tmp_path / "a.ring", EVENT_DTYPE)


def test_a_head_that_runs_away_while_reading_is_refused(tmp_path):
    path = tmp_path / "a.ring"
    Ring.create(path, PAIR, 4)
    consumer = Ring(path, PAIR)
    overwrite(path, 64, 5)
    with pytest.raises(Corrupt, match="head 5 and tail 0"):
        consumer.read(1)


def test_a_ring_of_an_earlier_boot_is_told(tmp_path):
    path = tmp_path / "a.ring"
    assert Ring.create(path, PAIR, 4).was_made_since_boot
    overwrite(path, 24, 12345)
    assert not Ring(path, PAIR).was_made_since_boot


PRODUCER = """
import sys, numpy as np
from pathlib import Path
from ledger.ring import Ring
pair = np.dtype([("number", np.int64), ("check", np.uint64)], align=True)
ring = Ring(Path(sys.argv[1]), pair)
number = ring.head
one = np.zeros(1, pair)
while True:
    one["number"], one["check"] = number, number * 7
    number += ring.push(one)
"""


def test_a_producer_killed_at_any_moment_leaves_only_whole_records(tmp_path):
    path = tmp_path / "a.ring"
    Ring.create(path, PAIR, 64)
    consumer = Ring(path, PAIR)
    seen = 0
    for kill_after in (500, 1_700, 900):
        producer = subprocess.Popen([sys.executable, "-c", PRODUCER, str(path)])
        try:
            goal = seen + kill_after
            while seen < goal:
                assert producer.poll() is None
                taken = consumer.drain(50)
                numbers = taken["number"]
                assert numbers.tolist() == list(range(seen, seen + len(numbers)))
                assert (taken["check"] == numbers.astype(np.uint64) * np.uint64(7)).all()
                seen += len(numbers)
        finally:
            producer.send_signal(signal.SIGKILL)
            producer.wait()
    rest = consumer.drain(64)["number"].tolist()
    assert rest == list(range(seen, seen + len(rest)))


def overwrite(path, at, word):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(word.to_bytes(8, "little"))


def test_a_record_pushed_as_its_bytes_is_read_as_the_record(tmp_path):
    ring = Ring.create(tmp_path / "ring", PAIR, 3)
    pushed = 0
    for turn in range(5):
        records = np.zeros(3, PAIR)
        records[PAIR.names[0]] = np.arange(3) + 10 * turn
        raw = records.view(np.uint8).data
        width = PAIR.itemsize
        for n in range(3):
            assert ring.push_raw(raw[n * width : (n + 1) * width])
            pushed += 1
        assert not ring.push_raw(raw[:width])
        assert ring.head == pushed
        assert ring.drain(10).tobytes() == records.tobytes()
