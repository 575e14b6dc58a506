"""The price landscape: how likely a bid of some price wins, per exchange and format.

A landscape is data that somebody estimated (from loss notices, ``AUCTION_MIN_TO_WIN``, won prices)
and handed over; this file checks it and lays it out. ``bidder.kernels_bid`` finds the bid with the
highest expected surplus in it.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

from market.campaign import format_bit
from market.errors import BadInput
from market.money import PRICE_CPM_MICROS_MAX
from market.opportunity import Format
from market.snapshot import LANDSCAPE_DTYPE, LANDSCAPE_POINTS


class Landscape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What it took to win in one exchange's first-price auctions.

    The share of auctions won is a step function: a bid wins with the probability of the highest
    point that it reaches, and never below the first point.

    Attributes:
        exchange_id: of the exchange's profile.
        format: banner, video, audio or native; "" = all formats that have none of their own.
        price_cpm_micros: 1 to LANDSCAPE_POINTS prices in USD, ascending (quantiles of the price
            that would have won).
        win_probability: of a bid at each of these prices, never falling.
    """

    exchange_id: int
    format: str = ""
    price_cpm_micros: tuple[int, ...]
    win_probability: tuple[float, ...]


def landscape_array(landscapes: tuple[Landscape, ...]) -> npt.NDArray[np.void]:
    """Returns the landscapes as an array of LANDSCAPE_DTYPE.

    Raises:
        BadInput: one breaks a rule, or two are of the same exchange and format.
    """
    array = np.zeros(len(landscapes), LANDSCAPE_DTYPE)
    seen: set[tuple[int, str]] = set()
    for record, landscape in zip(array, landscapes, strict=True):
        at = f"price landscape of exchange {landscape.exchange_id} '{landscape.format}'"
        _check(landscape, at)
        if (landscape.exchange_id, landscape.format) in seen:
            raise BadInput(f"{at}: given twice; there is one per exchange and format")
        seen.add((landscape.exchange_id, landscape.format))
        prices, chances = landscape.price_cpm_micros, landscape.win_probability
        record["exchange"] = landscape.exchange_id
        record["format"] = format_bit(landscape.format) if landscape.format else 0
        record["price_cpm_micros"] = prices[-1]
        record["win_probability"] = chances[-1]
        record["price_cpm_micros"][: len(prices)] = prices
        record["win_probability"][: len(chances)] = chances
    return array


def _check(landscape: Landscape, at: str) -> None:
    prices, chances = landscape.price_cpm_micros, landscape.win_probability
    if not 1 <= landscape.exchange_id <= 65_535:
        raise BadInput(f"{at}: exchange_id must be 1-65535")
    if landscape.format and landscape.format.upper() not in Format.__members__:
        raise BadInput(f"{at}: format must be banner, video, audio, native or empty")
    if not 1 <= len(prices) <= LANDSCAPE_POINTS or len(prices) != len(chances):
        raise BadInput(
            f"{at}: {len(prices)} prices and {len(chances)} probabilities; there must be as many "
            f"of one as of the other, 1-{LANDSCAPE_POINTS}"
        )
    if sorted(set(prices)) != list(prices) or not 0 < prices[0] <= prices[-1] <= (
        PRICE_CPM_MICROS_MAX
    ):
        raise BadInput(
            f"{at}: price_cpm_micros is {prices}; prices must rise, from above 0 to at most "
            f"{PRICE_CPM_MICROS_MAX}"
        )
    if (
        sorted(chances) != list(chances)
        or not all(map(math.isfinite, chances))
        or not 0 <= chances[0] <= chances[-1] <= 1
    ):
        raise BadInput(f"{at}: win_probability is {chances}; it must be 0 to 1 and never fall")
