"""Which creative fits which slot, against the slow twin, and the lift that chooses among them."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.kernels_creative import creative_obstacle, is_same_shape, show
from market.creative import Creative, NativeImage, NativeParts
from market.decision import DECISION_DTYPE, NoBidReason
from market.opportunity import DURATION_COUNT_MAX, Format, no_opportunities
from tests.bidder.worlds import creative_of, fill_fit, one_item_campaign, snapshot_of, some
from tests.reference import creative_fit
from tests.reference.decide import plain

pytestmark = pytest.mark.plain

SIZES = (300 << 16 | 250, 320 << 16 | 50, 728 << 16 | 90)


def compiled(creatives):
    """Rows of CREATIVE_DTYPE, as a snapshot has them."""
    return snapshot_of((one_item_campaign(creatives),)).arrays.creatives


def block_of(rng, count):
    block = no_opportunities(count, 1, 1)
    for record in block.records:
        record["formats"] = rng.choice((1, 2, 4, 8, 15))
        sizes = some(rng, SIZES, 0.5)
        record["sizes"][: len(sizes)] = sizes
        record["size_count"] = len(sizes)
        record["is_secure"] = rng.random() < 0.3
        fill_fit(rng, record)
    return block


@given(st.integers(0, 2**32))
def test_a_creative_fits_where_the_slow_twin_says_so_and_for_the_same_reason(seed):
    rng = random.Random(seed)
    creatives = tuple(creative_of(rng, n + 1) for n in range(6))
    rows = compiled(creatives)
    block = block_of(rng, 20)
    for n in range(20):
        o = plain(block, n)
        for creative, row in zip(creatives, rows, strict=True):
            expected = creative_fit.not_showable(o, creative) or 0
            assert creative_obstacle(block.records[n], row) == expected, (n, creative)


@given(st.integers(0, 2**32))
def test_the_best_version_that_the_player_takes_is_chosen_as_in_the_slow_twin(seed):
    rng = random.Random(seed)
    creatives = tuple(creative_of(rng, n + 1) for n in range(8))
    rows = compiled(creatives)
    block = block_of(rng, 10)
    offer = np.zeros(1, DECISION_DTYPE)
    for n in range(10):
        o = plain(block, n)
        for creative, row in zip(creatives, rows, strict=True):
            if creative_fit.not_showable(o, creative):
                continue
            show(block.records[n], row, offer[0])
            place = int(offer["rendition_row"][0]) - int(row["rendition_first"])
            played = {"video": 0, "audio": 1}.get(creative.format, 2)
            if creative.format != "native" or o["native_needs_video"]:
                assert row["protocols"][place] == creative_fit.rendition(o, creative, played)
            assert (offer["ratio"][0] != 0) == is_flexible(o, creative)


def is_flexible(o, creative):
    """Whether a banner that fits does so by its shape only."""
    if creative.format != "banner" or not o["ratios"][0]:
        return False
    return creative.width << 16 | creative.height not in o["sizes"]


def test_random_slots_and_creatives_reach_every_obstacle():
    rng = random.Random(5)
    creatives = tuple(creative_of(rng, n + 1) for n in range(90))
    rows = compiled(creatives)
    records = block_of(rng, 300).records
    seen = {creative_obstacle(record, row) for record in records for row in rows}
    assert seen == {
        0, NoBidReason.FORMAT_NOT_SERVED, NoBidReason.SIZE_NOT_OFFERED,
        NoBidReason.BANNER_TYPE_BLOCKED, NoBidReason.DURATION_NOT_ACCEPTED,
        NoBidReason.LINEARITY_NOT_ACCEPTED, NoBidReason.PROTOCOL_NOT_ACCEPTED,
        NoBidReason.MEDIA_TYPE_NOT_ACCEPTED, NoBidReason.DELIVERY_NOT_ACCEPTED,
        NoBidReason.NATIVE_ASSET_MISSING, NoBidReason.ATTRIBUTE_BLOCKED,
        NoBidReason.SKIP_NOT_ACCEPTED, NoBidReason.EXPANSION_NOT_ALLOWED,
        NoBidReason.API_NOT_SUPPORTED, NoBidReason.NOT_SECURE,
    }  # fmt: skip


# Rules one by one.

BANNER = Creative(
    creative_id=1, width=300, height=250, adm="<img>", landing_url="https://shop.example/"
)
VIDEO = Creative(
    creative_id=1, format="video", width=640, height=360, duration_ms=15_000, protocol=3,
    media_type="video/mp4", media_url="https://shop.example/v.mp4", bitrate_kbps=800,
    landing_url="https://shop.example/",
)  # fmt: skip
NATIVE = Creative(
    creative_id=1, format="native", landing_url="https://shop.example/",
    native=NativeParts(
        title="Shoes", sponsored="Alpine",
        icon=NativeImage(url="https://shop.example/i.png", width=64, height=64),
    ),
)  # fmt: skip


def obstacle(creative, /, *, creative_changes=None, **columns):
    creative = msgspec.structs.replace(creative, **(creative_changes or {}))
    record = no_opportunities(1, 1, 1).records[0]
    record["formats"] = Format[creative.format.upper()]
    for name, value in columns.items():
        if isinstance(value, dict):
            for place, each in value.items():
                record[name][place] = each
        else:
            record[name] = value
    return NoBidReason(creative_obstacle(record, compiled((creative,))[0]))


def test_a_format_is_judged_by_its_own_columns_only():
    elsewhere = {0: 1 << 63, 2: 1 << 63, 3: 1 << 63}
    assert obstacle(VIDEO, media_types=elsewhere, protocols={1: 1}) == NoBidReason.BID
    assert obstacle(VIDEO, media_types={1: 1 << 63}) == NoBidReason.MEDIA_TYPE_NOT_ACCEPTED
    assert obstacle(BANNER, duration_ms_min={0: 99_000}, native_title_chars=9) == NoBidReason.BID


def test_one_of_the_required_durations_must_be_met_exactly():
    second = {1: 30_000, 0: 20_000}
    assert obstacle(VIDEO, durations_ms=second) == NoBidReason.DURATION_NOT_ACCEPTED
    assert obstacle(VIDEO, durations_ms={0: 20_000, 1: 15_000}) == NoBidReason.BID
    audio_only = {DURATION_COUNT_MAX: 30_000}
    assert obstacle(VIDEO, durations_ms=audio_only) == NoBidReason.BID


def test_an_api_that_is_not_listed_is_not_supported():
    needs = {"apis": (7,)}
    assert obstacle(VIDEO, creative_changes=needs) == NoBidReason.API_NOT_SUPPORTED
    assert obstacle(VIDEO, creative_changes=needs, apis={0: 1 << 7}) == (
        NoBidReason.API_NOT_SUPPORTED
    )
    assert obstacle(VIDEO, creative_changes=needs, apis={1: 1 << 7 | 1}) == NoBidReason.BID


def test_a_bitrate_that_is_not_known_is_not_promised():
    assert obstacle(VIDEO, bitrate_kbps_max={0: 1_000}) == NoBidReason.BID
    assert obstacle(VIDEO, bitrate_kbps_max={0: 799}) == NoBidReason.DELIVERY_NOT_ACCEPTED
    unknown = {"bitrate_kbps": 0}
    assert obstacle(VIDEO, creative_changes=unknown) == NoBidReason.BID
    assert obstacle(VIDEO, creative_changes=unknown, bitrate_kbps_min={0: 1}) == (
        NoBidReason.DELIVERY_NOT_ACCEPTED
    )


def test_daast_is_not_vast():
    assert obstacle(VIDEO, protocols={0: 1 << 9 | 1 << 10}) == NoBidReason.PROTOCOL_NOT_ACCEPTED


def test_a_player_that_takes_no_boxes_takes_its_own_shape():
    assert obstacle(VIDEO, player_size=1920 << 16 | 1080) == NoBidReason.BID
    assert obstacle(VIDEO, player_size=640 << 16 | 480) == NoBidReason.SIZE_NOT_OFFERED
    assert is_same_shape(854 << 16 | 480, 1920 << 16 | 1080), "pixels are rounded"


def test_a_flexible_size_is_filled_by_its_shape_from_its_least_width():
    six_to_five = {0: 6 << 16 | 5}
    assert obstacle(BANNER, ratios=six_to_five) == NoBidReason.BID
    assert obstacle(BANNER, ratios=six_to_five, ratio_widths_min={0: 301}) == (
        NoBidReason.SIZE_NOT_OFFERED
    )


def test_what_expands_needs_room_in_every_direction():
    expands = {"attributes": (4,), "expand_directions": (1, 4)}
    assert obstacle(BANNER, creative_changes=expands) == NoBidReason.EXPANSION_NOT_ALLOWED
    assert obstacle(BANNER, creative_changes=expands, expand_directions=1 << 4) == (
        NoBidReason.EXPANSION_NOT_ALLOWED
    )
    both = 1 << 4 | 1 << 1
    assert obstacle(BANNER, creative_changes=expands, expand_directions=both) == NoBidReason.BID


def test_a_required_native_asset_must_be_there_and_fit():
    assert obstacle(NATIVE, native_title_chars=5) == NoBidReason.BID
    assert obstacle(NATIVE, native_title_chars=4) == NoBidReason.NATIVE_ASSET_MISSING
    assert obstacle(NATIVE, native_data_chars={1: 25}) == NoBidReason.BID
    assert obstacle(NATIVE, native_data_chars={2: 25}) == NoBidReason.NATIVE_ASSET_MISSING
    room = {"native_width_max": 64, "native_height_max": 65_535}
    assert obstacle(NATIVE, native_images_required=1, **room) == NoBidReason.BID
    assert obstacle(NATIVE, native_images_required=2, **room) == NoBidReason.NATIVE_ASSET_MISSING
    assert obstacle(NATIVE, native_images_required=1) == NoBidReason.NATIVE_ASSET_MISSING
    assert obstacle(NATIVE, native_needs_video=1) == NoBidReason.NATIVE_ASSET_MISSING
    has_video = {"media_url": "https://shop.example/v.mp4", "duration_ms": 9_000, "protocol": 3,
                 "media_type": "video/mp4"}  # fmt: skip
    assert obstacle(NATIVE, creative_changes=has_video, native_needs_video=1) == NoBidReason.BID
    assert (
        obstacle(
            NATIVE, creative_changes=has_video, native_needs_video=1, duration_ms_max={2: 8_000}
        )
        == NoBidReason.DURATION_NOT_ACCEPTED
    )


def test_a_skip_button_must_be_as_late_as_the_player_wants_it():
    skips = {"attributes": (16,), "skip_after_ms": 5_000}
    assert obstacle(VIDEO, creative_changes=skips, skip_after_ms_min=5_000) == NoBidReason.BID
    assert obstacle(VIDEO, creative_changes=skips, skip_after_ms_min=5_001) == (
        NoBidReason.SKIP_NOT_ACCEPTED
    )
    assert obstacle(VIDEO, creative_changes=skips, skippable_ms_min=15_000) == (
        NoBidReason.SKIP_NOT_ACCEPTED
    )
    assert obstacle(VIDEO, skippable_ms_min=15_000, skip_after_ms_min=9_000) == NoBidReason.BID
