"""The exchange: offers opportunities, clears first-price auctions, says what became of bids.

Pure: no clock, no network, no chance that is not keyed. Its only memory are the notices that are
not due yet. What an agent may learn is in ``Offers.opportunities`` and in the notices; the scene
and user rows of offers and everything in a ``Clearing`` are for reports.

First price against the best rival, by the rules of ``market.auction``: a bid wins if it reaches the
floor and exceeds every rival, and pays what it bid. On a tie the rival was there first.

Dimension names: N = opportunities of a block, M = bids on them.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from market import auction
from market.decision import NoBidReason
from market.errors import BadInput
from market.events import EventKind
from market.exchange import DEFAULT_EXCHANGES, ExchangeProfile, check_profiles
from market.money import MICROS, currency_number
from market.protocols import Notice
from simulator import delivery
from simulator.competitors import build_rivals
from simulator.kernels import amounts_micros, best_rivals, draw_orders
from simulator.population import build_population
from simulator.registration import RegisteredCreative, check_registered
from simulator.response import build_response, respond
from simulator.supply import Offers, Supply, billing_window_ms

if TYPE_CHECKING:
    from simulator.scenario import Scenario

_ONE_SLOT = np.array([MICROS], np.int64)
_T = TypeVar("_T", bound=np.generic)

_KINDS = {int(kind): kind for kind in EventKind}


class LossReason(enum.IntEnum):
    """Why a bid lost. Source: OpenRTB 2.6, list "Loss Reason Codes" (AdCOM 1.0)."""

    WON = 0
    INVALID_RESPONSE = 3
    MISSING_MARKUP = 7
    MISSING_CREATIVE_ID = 8
    BELOW_FLOOR = 100
    OUTBID = 102
    CREATIVE_FILTERED = 200
    SIZE_NOT_ALLOWED = 203
    FORMAT_NOT_ALLOWED = 204


class Bids(NamedTuple):
    """Bids on some opportunities of a block; all [M].

    Attributes:
        offer: int64 places in the block, increasing: one bid an opportunity at most.
        bid_hi, bid_lo: uint64 bid id.
        price_cpm_micros: int64, in the scenario's currency.
        creative_id: int64.
        size: uint32 w << 16 | h; 0 = not said.
        format: uint8 ``Format`` bit; 0 = not said.
        rate_micros: int64 account currency per unit of bid currency, times 10^6.
        fault: uint16 ``LossReason`` that was found when the bid was read; 0 = none.
    """

    offer: npt.NDArray[np.int64]
    bid_hi: npt.NDArray[np.uint64]
    bid_lo: npt.NDArray[np.uint64]
    price_cpm_micros: npt.NDArray[np.int64]
    creative_id: npt.NDArray[np.int64]
    size: npt.NDArray[np.uint32]
    format: npt.NDArray[np.uint8]
    rate_micros: npt.NDArray[np.int64]
    fault: npt.NDArray[np.uint16]


class Clearing(NamedTuple):
    """What became of M bids; all [M].

    Attributes:
        has_won: won the auction.
        reason: uint16 ``LossReason``; 0 where won.
        clearing_cpm_micros: what the winner pays, 0 where lost.
        min_to_win_cpm_micros: the least price that would have won.
        rival_cpm_micros: the best rival bid, 0 = none.
        amount_micros: what the impression costs in account currency, 0 where lost.
        creative: int32 row of the registered creatives, -1 = unknown.
        click_probability: of an impression (viewability included), 0 where lost.
        conversion_probability: of a click, 0 where lost.
        has_clicked, has_converted: what the user did, sooner or later.
        value_micros: of the order, 0 if there is none.
    """

    has_won: npt.NDArray[np.bool_]
    reason: npt.NDArray[np.uint16]
    clearing_cpm_micros: npt.NDArray[np.int64]
    min_to_win_cpm_micros: npt.NDArray[np.int64]
    rival_cpm_micros: npt.NDArray[np.int64]
    amount_micros: npt.NDArray[np.int64]
    creative: npt.NDArray[np.int32]
    click_probability: npt.NDArray[np.float64]
    conversion_probability: npt.NDArray[np.float64]
    has_clicked: npt.NDArray[np.bool_]
    has_converted: npt.NDArray[np.bool_]
    value_micros: npt.NDArray[np.int64]


def bids_of(decisions: npt.NDArray[np.void], currency: str) -> Bids:
    """Returns the bids among the decisions on a block, [N] of ``DECISION_DTYPE``.

    Raises:
        BadInput: a bid is in another currency than the exchange's.
    """
    offer = np.flatnonzero(decisions["reason"] == NoBidReason.BID)
    made = decisions[offer]
    number = currency_number(currency)
    is_foreign = made["bid_currency"] != number
    if is_foreign.any():
        found = int(made["bid_currency"][is_foreign][0])
        raise BadInput(f"bid currency {found}: this exchange trades in {currency} ({number}) only")
    return Bids(
        offer=offer,
        bid_hi=made["bid_hi"],
        bid_lo=made["bid_lo"],
        price_cpm_micros=made["bid_cpm_micros"],
        creative_id=made["creative_id"].astype(np.int64),
        size=made["size"],
        format=made["format"],
        rate_micros=made["rate_micros"],
        fault=np.zeros(offer.shape[0], np.uint16),
    )


def profile_of(
    scenario: Scenario, profiles: tuple[ExchangeProfile, ...] = DEFAULT_EXCHANGES
) -> ExchangeProfile:
    """Returns the exchange profile that the scenario names.

    Raises:
        BadInput: there is none.
    """
    by_name = check_profiles(profiles)
    profile = by_name.get(scenario.exchange)
    if profile is None:
        raise BadInput(
            f"scenario '{scenario.name}': exchange is '{scenario.exchange}'; it must be one of "
            f"{', '.join(by_name)}",
            "/exchange",
        )
    return profile


class Exchange:
    """One market and the notices that are on their way."""

    def __init__(
        self,
        scenario: Scenario,
        creatives: tuple[RegisteredCreative, ...],
        *,
        seed: int,
        user_salt: bytes,
        profile: ExchangeProfile | None = None,
    ) -> None:
        """Builds the market.

        Args:
            scenario: the market.
            creatives: that may be shown.
            seed: of everything that happens; the market itself follows the scenario's world_seed.
            user_salt: of the bidder's pseudonyms.
            profile: of the exchange as the bidder has it; None = the one that ships.

        Raises:
            BadInput: the scenario or the creatives break a rule.
        """
        profile = profile or profile_of(scenario)
        self.scenario = scenario
        self.seed = seed
        self.creatives = check_registered(creatives)
        self.population = build_population(scenario)
        self.supply = Supply(scenario, self.population, profile, seed=seed, user_salt=user_salt)
        _check_windows(scenario, profile, self.supply)
        self._rivals = build_rivals(scenario, self.supply.scenes)
        self._response = build_response(self.supply, self.population, self.creatives)
        rules = scenario.response
        self._delay_bounds = np.array(
            [rules.delay_ms_median, rules.delay_sigma, rules.delay_ms_min, rules.delay_ms_max],
            np.float64,
        )
        order = sorted(range(len(creatives)), key=lambda row: creatives[row].creative_id)
        self._sorted_ids = np.array([creatives[row].creative_id for row in order], np.int64)
        self._sorted_rows = np.array(order, np.int32)
        self._values = np.array(
            [creative.value_per_conversion_micros for creative in creatives], np.float64
        )
        self._pending = np.zeros(0, delivery.NOTICE_DTYPE)

    @property
    def pending_count(self) -> int:
        """Notices that are not due yet, repetitions included."""
        return self._pending.shape[0]

    def request_id(self, sequence: int) -> str:
        """Returns the id of a request; also the order id of a conversion that follows from it."""
        return self.supply.request_id(sequence)

    def offers(self, start_ms: int, end_ms: int) -> Offers:
        """Returns the opportunities of [start, end) of the episode clock, in order of arrival."""
        return self.supply.offers(start_ms, end_ms)

    def clear(self, offers: Offers, bids: Bids) -> Clearing:
        """Returns what becomes of the bids on a block, and schedules the notices about it."""
        assert (np.diff(bids.offer) > 0).all(), "one bid an opportunity, in order of arrival"
        scenario = self.scenario
        records = offers.opportunities.records[bids.offer]
        scene, user = offers.scene[bids.offer], offers.user[bids.offer]
        key_hi = np.ascontiguousarray(records["key_hi"])
        key_lo = np.ascontiguousarray(records["key_lo"])
        floor = np.ascontiguousarray(records["floor_cpm_micros"])
        rival = best_rivals(
            self.seed, key_hi, key_lo, scene, user, floor, *self._rivals, self.population.interest
        )
        creative = self._rows_of(bids.creative_id)
        reason = _refusals(records, bids, creative)
        entered = np.where(reason == LossReason.WON, bids.price_cpm_micros, 0)
        outcome = auction.clear(
            auction.Rule.FIRST_PRICE, np.stack((rival, entered)), floor, _ONE_SLOT
        )
        has_won = outcome.winner[:, 0] == 1
        reason[~has_won & (reason == LossReason.WON)] = LossReason.OUTBID
        price = np.where(has_won, outcome.price_cpm_micros[:, 0], 0)
        min_to_win = np.maximum(np.where(rival > 0, rival + 1, floor), 1)
        amount = amounts_micros(
            price, np.ascontiguousarray(records["quantity_micros"]), bids.rate_micros
        )
        won = np.flatnonzero(has_won)
        response = respond(
            self.seed, key_hi[won], key_lo[won], user[won], scene[won], creative[won],
            self._response,
        )  # fmt: skip
        delay, factor = draw_orders(
            self.seed, key_hi[won], key_lo[won], self._delay_bounds, scenario.response.value_sigma
        )
        order_value = np.rint(self._values[creative[won]] * factor).astype(np.int64)
        count = has_won.shape[0]
        clearing = Clearing(
            has_won=has_won,
            reason=reason,
            clearing_cpm_micros=price,
            min_to_win_cpm_micros=min_to_win,
            rival_cpm_micros=rival,
            amount_micros=amount,
            creative=creative,
            click_probability=_placed(count, won, response.view * response.click),
            conversion_probability=_placed(count, won, response.conversion),
            has_clicked=_placed(count, won, response.clicked.astype(np.bool_)),
            has_converted=_placed(count, won, response.converted.astype(np.bool_)),
            value_micros=_placed(count, won, order_value * response.converted),
        )
        settled = delivery.Settled(
            key_hi=key_hi,
            key_lo=key_lo,
            sequence=offers.sequence[bids.offer],
            arrival_ms=np.ascontiguousarray(records["arrival_ms"]),
            billing_window_ms=records["billing_window_ms"],
            bid_hi=bids.bid_hi,
            bid_lo=bids.bid_lo,
            price_cpm_micros=np.where(has_won, price, min_to_win),
            reason=reason,
            outcome=has_won.astype(np.uint8) + clearing.has_clicked + clearing.has_converted,
            delay_ms=_placed(count, won, delay),
            value_micros=clearing.value_micros,
            min_to_win_cpm_micros=min_to_win,
        )
        rows = delivery.schedule(self.seed, scenario.delivery, scenario.slice_ms, settled)
        self._pending = np.concatenate((self._pending, rows))
        return clearing

    def due_rows(self, now_ms: int) -> npt.NDArray[np.void]:
        """Returns and forgets the notices due by ``now_ms`` in the order of delivery.

        [R] of ``simulator.delivery.NOTICE_DTYPE``; ``notices_of`` turns them into notices.
        """
        is_due = self._pending["due_ms"] <= now_ms
        rows = self._pending[is_due]
        self._pending = self._pending[~is_due]
        return delivery.in_order(rows)

    def due(self, now_ms: int) -> tuple[Notice, ...]:
        """Returns and forgets the notices due by ``now_ms``, in the order of delivery."""
        return self.notices_of(self.due_rows(now_ms), now_ms)

    def notices_of(self, rows: npt.NDArray[np.void], now_ms: int) -> tuple[Notice, ...]:
        """Returns scheduled notices as they are delivered at ``now_ms``."""
        columns = ("kind", "bid_hi", "bid_lo", "price_cpm_micros", "reason", "sequence")
        said = zip(*(rows[name].tolist() for name in columns), strict=True)
        orders = zip(
            rows["value_micros"].tolist(), rows["min_to_win_cpm_micros"].tolist(), strict=True
        )
        # By position: this runs for every notice of an episode.
        return tuple(
            Notice(
                _KINDS[kind], bid_hi, bid_lo, now_ms, price, reason,
                self.request_id(sequence) if kind == EventKind.CONVERSION else "", value, least,
            )
            for (kind, bid_hi, bid_lo, price, reason, sequence), (value, least) in zip(
                said, orders, strict=True
            )
        )  # fmt: skip

    def _rows_of(self, creative_id: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Returns the rows of registered creatives; -1 where nobody registered the id."""
        if not self._sorted_ids.shape[0]:
            return np.full(creative_id.shape[0], -1, np.int32)
        place = np.searchsorted(self._sorted_ids, creative_id)
        place = np.minimum(place, self._sorted_ids.shape[0] - 1)
        is_known = self._sorted_ids[place] == creative_id
        return np.where(is_known, self._sorted_rows[place], np.int32(-1)).astype(np.int32)


def _refusals(
    records: npt.NDArray[np.void], bids: Bids, creative: npt.NDArray[np.int32]
) -> npt.NDArray[np.uint16]:
    """Returns [M] why bids may not enter the auction, 0 = may; the first rule broken counts."""
    sizes, count = records["sizes"], records["size_count"].astype(np.int64)
    is_listed = (sizes == bids.size[:, None]) & (np.arange(sizes.shape[1]) < count[:, None])
    fits = (bids.size == 0) | (count == 0) | is_listed.any(axis=1)
    has_format = (bids.format == 0) | ((records["formats"] & bids.format) != 0)
    reason = np.zeros(bids.offer.shape[0], np.uint16)
    # Written in reverse, so that the first rule has the last word.
    reason[bids.price_cpm_micros < records["floor_cpm_micros"]] = LossReason.BELOW_FLOOR
    reason[~fits] = LossReason.SIZE_NOT_ALLOWED
    reason[~has_format] = LossReason.FORMAT_NOT_ALLOWED
    reason[creative < 0] = LossReason.CREATIVE_FILTERED
    return np.where(bids.fault != LossReason.WON, bids.fault, reason)


def _placed(count: int, rows: npt.NDArray[np.intp], values: npt.NDArray[_T]) -> npt.NDArray[_T]:
    """Returns [count] zeros with ``values`` at ``rows``."""
    out = np.zeros(count, values.dtype)
    out[rows] = values
    return out


def _check_windows(scenario: Scenario, profile: ExchangeProfile, supply: Supply) -> None:
    """Checks that a notice on time, and one held back, can arrive within the billing window.

    Raises:
        BadInput: a slice is too long for the shortest window.
    """
    window = min(billing_window_ms(profile, scene.format) for scene in supply.scenes)
    needed = delivery.longest_base_ms(scenario.delivery) + 2 * scenario.slice_ms
    if needed > window:
        raise BadInput(
            f"scenario '{scenario.name}': /slice_ms: is {scenario.slice_ms}; two slices and the "
            f"longest notice delay are {needed} ms, which must not exceed the billing window of "
            f"{window} ms",
            "/slice_ms",
        )
