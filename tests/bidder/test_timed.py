"""What is played: lengths, protocols, files; clean or as exchanges write them."""

from __future__ import annotations

import pytest

from bidder.timed import NO_KNOWN, NO_KNOWN_MEDIA, accepted_mask, mask_of, media_mask, played_of
from market.openrtb import Audio, Video


@pytest.mark.parametrize(
    ("media", "lengths"),
    [
        (Video(), (0, 0, ())),
        (Video(minduration=5, maxduration=30), (5_000, 30_000, ())),
        (Video(minduration=-5, maxduration=-1), (0, 0, ())),
        (Video(maxduration=30, maxextended=15), (0, 45_000, ())),
        (Video(maxduration=30, maxextended=-1), (0, 0, ())),
        (Video(maxduration=30, maxextended=-2), (0, 30_000, ())),
        (Video(maxduration=2**60), (0, 86_400_000, ())),
        (Video(rqddurs=[15, "30", 15, 2.5, -1], maxduration=9), (0, 0, (15_000, 30_000))),
        (Video(rqddurs=list(range(1, 20))), (0, 0, tuple(range(1_000, 9_000, 1_000)))),
        (Video(poddur=60), (0, 60_000, ())),
        (Video(poddur=60, maxduration=30), (0, 30_000, ())),
        (Video(poddur=60, rqddurs=[15, 90]), (0, 0, (15_000,))),
        (Audio(minduration=10, maxduration=10), (10_000, 10_000, ())),
    ],
)
def test_accepted_lengths_are_a_range_or_a_list(media, lengths):
    played = played_of(media)
    assert (played.duration_ms_min, played.duration_ms_max, played.durations_ms) == lengths


@pytest.mark.parametrize(
    ("media", "field"),
    [
        (Video(minduration=31, maxduration=30), "minduration"),
        (Video(rqddurs=[0]), "rqddurs"),
        (Video(rqddurs=[90], poddur=60), "rqddurs"),
        (Video(minduration=61, poddur=60), "poddur"),
        (Audio(minbitrate=2, maxbitrate=1), "minbitrate"),
    ],
)
def test_a_player_that_takes_nothing_names_the_field(media, field):
    assert played_of(media) == field


@pytest.mark.parametrize(
    ("media", "mask"),
    [
        (Video(protocols=[2, 3]), 1 << 2 | 1 << 3),
        (Video(protocol=3), 1 << 3),
        (Video(protocol=[2], protocols=[7]), 1 << 7),
        (Video(protocols=["VAST 2.0", "vast 4.1 wrapper", "13"]), 1 << 2 | 1 << 12 | 1 << 13),
        (Video(protocols=["DAAST 1.0"]), 1 << 9),
        (Video(protocols=["flash", 99]), NO_KNOWN),
        (Video(protocols=[]), 0),
        (Audio(protocols=[9, 10]), 1 << 9 | 1 << 10),
    ],
)
def test_protocols_are_numbers_or_names_and_unknown_ones_are_none(media, mask):
    assert played_of(media).protocols == mask


def test_a_list_that_names_nothing_known_accepts_nothing():
    assert accepted_mask(None) == accepted_mask([]) == 0
    assert accepted_mask([99, -1]) == NO_KNOWN
    assert accepted_mask([1, 99]) == 1 << 1
    assert mask_of([99]) == 0
    assert media_mask(None) == 0
    assert media_mask(["x/y"]) == NO_KNOWN_MEDIA
    assert media_mask([" IMAGE/JPG ", 7]) == 1
    assert played_of(Video(delivery=[9])).deliveries == NO_KNOWN
