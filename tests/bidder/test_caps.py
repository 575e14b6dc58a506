"""The counters' file: shared by workers, kept whatever their number, refused when damaged."""

from __future__ import annotations

import numpy as np
import pytest

from bidder.caps import CAP_FILE_SLOT_COUNT, create_cap_file, map_cap_slots
from bidder.kernels_cap import cap_add, cap_count
from market.errors import Corrupt
from market.kernels import mix
from market.state import CAP_PROBES

KEY = np.uint64(77)
SLOTS = 1_024


@pytest.fixture
def path(tmp_path):
    return tmp_path / "caps.bin"


def create(path, workers, now_ms=0):
    create_cap_file(path, workers, now_ms=now_ms, slot_count=SLOTS)


def test_two_maps_of_one_file_see_each_others_counts(path):
    create_cap_file(path, 2)
    one, two = map_cap_slots(path, 2), map_cap_slots(path, 2)
    assert one.shape == (2, CAP_FILE_SLOT_COUNT)
    cap_add(one, 1, KEY, 5, 0, 100)
    assert cap_count(two, KEY, 0) == 5


@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 4), (4, 1), (3, 2), (2, 5)])
def test_a_change_of_the_number_of_workers_keeps_every_count(path, before, after):
    create(path, before)
    for worker in range(before):
        cap_add(map_cap_slots(path, before), worker, KEY, worker + 1, 0, 100)
    create(path, after, now_ms=50)
    slots = map_cap_slots(path, after)
    assert slots.shape[0] == max(before, after)
    assert cap_count(slots, KEY, 50) == before * (before + 1) // 2
    for worker in range(after):
        cap_add(slots, worker, KEY, 1, 50, 100)
    assert cap_count(slots, KEY, 50) == before * (before + 1) // 2 + after


def test_tables_of_workers_that_are_no_more_go_when_their_windows_are_over(path):
    create(path, 3)
    slots = map_cap_slots(path, 3)
    cap_add(slots, 1, KEY, 1, 0, 100)
    cap_add(slots, 2, KEY, 1, 0, 60)
    create(path, 1, now_ms=70)
    assert map_cap_slots(path, 1).shape[0] == 2
    create(path, 1, now_ms=100)
    assert map_cap_slots(path, 1).shape[0] == 1
    create(path, 3, now_ms=100)
    assert not map_cap_slots(path, 3)[1:]["count"].any(), "a table that comes back is empty"


def test_a_table_full_of_windows_that_are_over_takes_new_ones(path):
    create(path, 1)
    slots = map_cap_slots(path, 1)
    keys = [np.uint64(mix(np.uint64(n))) for n in range(1, 20 * SLOTS)]
    for key in keys:
        cap_add(slots, 0, key, 1, 0, 100)
    assert (slots["key"] != 0).mean() > 0.99, "every slot is taken"
    assert sum(cap_count(slots, key, 0) for key in keys[-200:]) < 20, "and the last found none"
    fresh = [np.uint64(mix(np.uint64(n))) for n in range(10**6, 10**6 + SLOTS // CAP_PROBES)]
    for key in fresh:
        cap_add(slots, 0, key, 1, 100, 200)
    assert [cap_count(slots, key, 100) for key in fresh] == [1] * len(fresh)
    assert not any(cap_count(slots, key, 100) for key in keys[:100])


def test_a_file_of_another_layout_is_replaced(path):
    path.write_bytes(b"older" * 1_000)
    create(path, 2)
    assert not map_cap_slots(path, 2)["count"].any()


def test_what_is_no_file_of_counters_is_corrupt(path):
    with pytest.raises(Corrupt, match=r"caps\.bin"):
        map_cap_slots(path, 1)
    create(path, 1)
    with pytest.raises(Corrupt, match="for 1 workers, must be for 2"):
        map_cap_slots(path, 2)
    for damaged in (b"x" * 10, b"x" * 100, path.read_bytes()[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(Corrupt, match="are no counters"):
            map_cap_slots(path, 1)
