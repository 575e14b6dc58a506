"""The words of attribution: models, levels, lookback windows, and the rules of a run."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from market.errors import BadInput
from market.events import DAY_MS

NOBODY: Final = -1
"""The channel of a conversion without a touch in its window: it keeps what nobody earned."""

CREDIT_MICROS: Final = 1_000_000
"""Credit of one conversion, which its channels share."""


class Model(enum.IntEnum):
    """How a conversion is shared. Numbers are stored: add, never renumber."""

    LAST_CLICK = 1
    FIRST = 2
    LINEAR = 3
    POSITION = 4
    DECAY = 5
    MARKOV = 6
    SHAPLEY = 7

    @property
    def learns(self) -> bool:
        """Whether its shares depend on other people's paths."""
        return self in {Model.MARKOV, Model.SHAPLEY}


class Level(enum.IntEnum):
    """What stands for a channel. Numbers are stored: add, never renumber."""

    CAMPAIGN = 1
    LINE_ITEM = 2
    CREATIVE = 3
    EXCHANGE = 4


class Lookback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How old a touch may be when the conversion happens; 0 = touches of that kind never count.

    Raises:
        BadInput: a window is negative.
    """

    click_ms: int = 30 * DAY_MS
    """Of a click, exclusive."""
    view_ms: int = DAY_MS
    """Of an impression without a click, exclusive."""

    def __post_init__(self) -> None:
        """Checks that no window is negative."""
        if self.click_ms < 0 or self.view_ms < 0:
            raise BadInput(
                f"lookback of {self.click_ms} ms for clicks and {self.view_ms} ms for views: "
                "neither may be negative"
            )


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an attribution is made by; equal rules over equal events give equal credits.

    Raises:
        BadInput: a weight, a half-life or a number is outside its range.
    """

    lookback: Lookback = Lookback()
    """Of advertisers that have none of their own."""
    lookbacks: dict[int, Lookback] = {}
    """By advertiser id."""
    position_first: float = 0.4
    """Share of the first touch under ``POSITION``; what is left goes to those in the middle."""
    position_last: float = 0.4
    half_life_ms: int = 7 * DAY_MS
    """Under ``DECAY``, a touch that is older by this has half the weight."""
    touches_max: int = 1_000
    """Touches of one conversion; of more, the latest count. It bounds what a robot can cost."""
    learning_days: int = 30
    """Days up to and with a conversion's whose paths ``MARKOV`` and ``SHAPLEY`` learn from."""

    def __post_init__(self) -> None:
        """Checks every range."""
        first, last = self.position_first, self.position_last
        if not (first >= 0 and last >= 0 and 0 < first + last <= 1):
            raise BadInput(
                f"position weights {first} and {last}: they must be at least 0 and sum to at most "
                "1, and one must be above 0"
            )
        for name in ("half_life_ms", "touches_max", "learning_days"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} {getattr(self, name)}: it must be at least 1")

    def lookback_of(self, advertiser_id: int) -> Lookback:
        """Returns the windows of an advertiser."""
        return self.lookbacks.get(advertiser_id, self.lookback)

    @property
    def lookback_ms_max(self) -> int:
        """The longest window of anybody."""
        every = (self.lookback, *self.lookbacks.values())
        return max(max(each.click_ms, each.view_ms) for each in every)
