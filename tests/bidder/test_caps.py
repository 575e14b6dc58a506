"""The counters' file: shared by workers, kept across restarts, refused when it is not right."""

from __future__ import annotations

import pytest

from bidder.caps import create_cap_file, map_cap_slots
from market.errors import Corrupt
from market.state import CAP_SLOT_COUNT


def test_two_maps_of_one_file_see_each_others_counts(tmp_path):
    path = tmp_path / "caps.bin"
    create_cap_file(path, 2)
    one, two = map_cap_slots(path, 2), map_cap_slots(path, 2)
    assert one.shape == (2, CAP_SLOT_COUNT)
    one[1, 7]["count"] = 5
    assert two[1, 7]["count"] == 5


def test_a_file_of_the_right_size_keeps_its_counts_and_another_is_replaced(tmp_path):
    path = tmp_path / "caps.bin"
    create_cap_file(path, 2)
    map_cap_slots(path, 2)[0, 0]["count"] = 3
    create_cap_file(path, 2)
    assert map_cap_slots(path, 2)[0, 0]["count"] == 3
    create_cap_file(path, 3)
    assert not map_cap_slots(path, 3)["count"].any()


def test_a_missing_file_and_one_of_another_size_are_corrupt(tmp_path):
    path = tmp_path / "caps.bin"
    with pytest.raises(Corrupt, match=r"caps\.bin"):
        map_cap_slots(path, 1)
    create_cap_file(path, 1)
    with pytest.raises(Corrupt, match="for 2 workers"):
        map_cap_slots(path, 2)
