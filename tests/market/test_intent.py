from __future__ import annotations

import threading

import pytest

from market.campaign import Budget, Campaign, Goal, GoalKind
from market.errors import Corrupt
from market.intent import (
    VERSIONS_KEPT,
    Intent,
    intent_path,
    intent_version,
    read_intent,
    write_intent,
)


def campaign(campaign_id):
    return Campaign(
        name="Spring", currency="USD", time_zone="UTC", advertiser_domain="shop.example",
        goal=Goal(kind=GoalKind.TARGET_CPA, target_cpa_micros=1), campaign_id=campaign_id,
        budget=Budget(lifetime_micros=10**15 - 1), advertiser_id=1,
    )  # fmt: skip


def test_nothing_published_is_version_0_without_campaigns(tmp_path):
    assert intent_version(tmp_path) == 0
    assert read_intent(tmp_path) == Intent(0, ())


def test_what_was_written_is_read_to_the_last_micro(tmp_path):
    intent = Intent(3, (campaign(1), campaign(7)))
    path = write_intent(tmp_path / "intent", intent)
    assert path == tmp_path / "intent" / "0000000003.json"
    assert intent_version(tmp_path / "intent") == 3
    assert read_intent(tmp_path / "intent") == intent


def test_a_lower_version_can_become_current_again(tmp_path):
    write_intent(tmp_path, Intent(9, (campaign(1),)))
    write_intent(tmp_path, Intent(4))
    assert read_intent(tmp_path) == Intent(4)


def test_the_last_versions_stay_and_older_ones_go(tmp_path):
    for version in range(1, 41):
        write_intent(tmp_path, Intent(version))
    kept = sorted(path.name for path in tmp_path.glob("*.json"))
    assert kept == [f"{version:010d}.json" for version in range(41 - VERSIONS_KEPT, 41)]
    assert list(tmp_path.glob("*.tmp")) == []


def test_a_damaged_intent_is_corrupt_and_the_message_says_what_to_do(tmp_path):
    write_intent(tmp_path, Intent(1))
    path = intent_path(tmp_path, 1)
    for damaged in (
        b"",
        b"{",
        b"\xff",
        b'{"version": 2, "campaigns": []}',
        b'{"version": 1, "x": 1}',
    ):
        path.write_bytes(damaged)
        with pytest.raises(Corrupt, match="restart the control plane"):
            read_intent(tmp_path)
    path.unlink()
    with pytest.raises(Corrupt, match="0000000001"):
        read_intent(tmp_path)
    (tmp_path / "current").write_bytes(b"one")
    with pytest.raises(Corrupt, match="must be a version"):
        intent_version(tmp_path)


def test_a_reader_sees_whole_versions_in_order_while_they_are_written(tmp_path):
    write_intent(tmp_path, Intent(1, (campaign(1),)))
    is_done = threading.Event()

    def write():
        for version in range(2, 200):
            write_intent(tmp_path, Intent(version, (campaign(version),) * 20))
        is_done.set()

    writer = threading.Thread(target=write)
    writer.start()
    last = 0
    while not is_done.is_set() or last < 199:
        intent = read_intent(tmp_path)
        assert intent.version >= last
        assert all(each.campaign_id == intent.version for each in intent.campaigns)
        last = intent.version
    writer.join()
