"""Price landscapes: laid out in a fixed number of points, or refused with the broken rule."""

from __future__ import annotations

import pytest

from market.errors import BadInput
from market.landscape import Landscape, landscape_array
from market.snapshot import LANDSCAPE_POINTS


def landscape(**changes):
    fields = {
        "exchange_id": 1, "format": "video", "price_cpm_micros": (5, 9),
        "win_probability": (0.25, 0.75),
    }  # fmt: skip
    return Landscape(**{**fields, **changes})


def test_unused_points_repeat_the_last_one():
    (record,) = landscape_array((landscape(),))
    assert (record["exchange"], record["format"]) == (1, 2)
    assert record["price_cpm_micros"].tolist() == [5] + [9] * (LANDSCAPE_POINTS - 1)
    assert record["win_probability"].tolist() == [0.25] + [0.75] * (LANDSCAPE_POINTS - 1)


def test_no_landscape_is_an_empty_array():
    assert landscape_array(()).shape == (0,)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"exchange_id": 0}, "exchange_id"),
        ({"format": "poster"}, "format"),
        ({"price_cpm_micros": ()}, "0 prices and 2 probabilities"),
        ({"price_cpm_micros": (5,)}, "1 prices and 2 probabilities"),
        ({"price_cpm_micros": (9, 5)}, "prices must rise"),
        ({"price_cpm_micros": (5, 5)}, "prices must rise"),
        ({"price_cpm_micros": (0, 5)}, "prices must rise"),
        ({"price_cpm_micros": (5, 10**15)}, "prices must rise"),
        ({"win_probability": (0.5, 0.25)}, "never fall"),
        ({"win_probability": (-0.5, 0.25)}, "never fall"),
        ({"win_probability": (0.5, 1.5)}, "never fall"),
        ({"win_probability": (0.5, float("nan"))}, "never fall"),
    ],
)
def test_a_landscape_that_breaks_a_rule_is_refused(changes, told):
    with pytest.raises(BadInput, match=told):
        landscape_array((landscape(**changes),))


def test_an_exchange_has_one_landscape_per_format():
    landscape_array((landscape(), landscape(format="")))
    with pytest.raises(BadInput, match="given twice"):
        landscape_array((landscape(), landscape()))
