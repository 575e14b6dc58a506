"""Creatives as columns: renditions in order, and what a slot compares."""

from __future__ import annotations

from bidder.creative_rows import renditions_of
from market.creative import Creative, NativeImage, NativeParts
from market.vast import VAST_VERSIONS
from tests.bidder.worlds import one_item_campaign, snapshot_of

VIDEO = Creative(
    creative_id=1, name="clip", format="video", width=640, height=360, duration_ms=15_000,
    protocol=3, media_type="video/mp4", media_url="https://shop.example/v.mp4", bitrate_kbps=800,
    landing_url="https://shop.example/",
)  # fmt: skip
BANNER = Creative(
    creative_id=2, width=300, height=250, adm="<iframe>", landing_url="https://shop.example/",
    attributes=(4,), expand_directions=(1, 5), apis=(5,),
)  # fmt: skip
NATIVE = Creative(
    creative_id=3, format="native", landing_url="https://shop.example/", width=640, height=360,
    native=NativeParts(
        title="Shoes", description="Light.", call_to_action="Buy",
        icon=NativeImage(
            url="https://shop.example/i", width=64, height=32, media_type="image/png"
        ),
    ),
)  # fmt: skip


def test_a_file_is_rendered_in_every_version_and_finished_markup_in_its_own():
    campaign = one_item_campaign(())
    assert [protocol for protocol, _ in renditions_of(campaign, VIDEO)] == list(VAST_VERSIONS)
    assert list(VAST_VERSIONS) == [15, 13, 11, 7, 3, 2], "the best first"
    assert all("clip" in adm for _, adm in renditions_of(campaign, VIDEO))
    assert renditions_of(campaign, BANNER) == ((0, "<iframe>"),)


def test_renditions_of_all_creatives_lie_in_one_row_of_rows():
    snapshot = snapshot_of((one_item_campaign((BANNER, VIDEO, NATIVE)),))
    rows = snapshot.arrays.creatives
    assert rows["rendition_first"].tolist() == [0, 1, 7]
    assert rows["protocols"].tolist() == [[0] * 6, list(VAST_VERSIONS), [0] * 6]
    assert [len(text.adms) for text in snapshot.head.creatives] == [1, 6, 1]


def test_the_columns_say_what_a_slot_compares():
    banner, native = snapshot_of((one_item_campaign((BANNER, NATIVE)),)).arrays.creatives
    assert banner["banner_type"] == 4
    assert banner["expand_directions"] == 1 << 1 | 1 << 5
    assert banner["apis"] == 1 << 5
    assert native["banner_type"] == 0
    assert native["title_chars"] == 5
    assert native["data_chars"].tolist() == [0, 0, 6, *[0] * 9, 3]
    assert native["image_sizes"].tolist() == [64 << 16 | 32, 0]
    assert native["image_types"].tolist() == [1 << 1, 0]
    assert native["size"] == 0, "its video has a size, the ad has none"
