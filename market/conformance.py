"""What every ``BidAgent`` must keep, as checks that anybody who writes one can run.

    check_agent(make_agent, opportunities)

The checks look at answers only: they know no snapshot, no policy and no auction. They do not judge
whether a bid is wise, whether a line item was matched rightly, or whether a budget was kept over
time; for these an agent needs tests of its own.

Dimension names: N = opportunities of the block, M = bids on them.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

import numpy as np

from market.decision import DECISION_DTYPE, NoBidReason
from market.events import EventKind
from market.kernels import amount_micros
from market.money import CURRENCY_NAMES, PRICE_CPM_MICROS_MAX
from market.opportunity import Format, Opportunities
from market.protocols import BidAgent, Notice

if TYPE_CHECKING:
    import numpy.typing as npt

BLOCK_SIZES = (1, 7, 64)
"""Sizes into which the block is cut; the answers must not depend on them."""

_OUTBID = 102
_REASONS = [int(reason) for reason in NoBidReason]


class Standing(enum.Enum):
    """In what condition an agent is asked for."""

    READY = "ready"
    """May bid, with enough money for every opportunity of the block."""
    PAUSED = "paused"
    """Has the money, but everything it could bid for is paused."""
    UNFUNDED = "unfunded"
    """May bid, but has no money."""


class MakeAgent(Protocol):
    """Makes the agent under test."""

    def __call__(self, standing: Standing) -> BidAgent:
        """Returns a fresh agent; two of one standing know the same and remember nothing."""
        ...


def check_agent(make_agent: MakeAgent, opportunities: Opportunities) -> None:
    """Checks an agent against a block of opportunities, some of which it must bid on.

    Args:
        make_agent: makes it, in a given standing.
        opportunities: [N], in order of arrival.

    Raises:
        AssertionError: a rule is broken; the message names the opportunity, what was found and the
            rule.
    """
    _require(opportunities.records.shape[0] > 0, "the block holds no opportunity; it must hold one")
    agent = make_agent(Standing.READY)
    before = [array.tobytes() for array in opportunities]
    decisions = _decide(agent, opportunities)
    after = [array.tobytes() for array in opportunities]
    _require(before == after, "decide wrote into the opportunities; they are the exchange's")
    is_bid = decisions["reason"] == NoBidReason.BID
    _require(bool(is_bid.any()), "the agent bid on no opportunity; nothing can be checked")
    _check_no_bids(decisions)
    _check_offers(decisions, opportunities)
    _check_prices(decisions, opportunities)
    _check_ids(decisions)
    for size in BLOCK_SIZES:
        _check_blocks(make_agent(Standing.READY), opportunities, decisions, size)
    for standing in (Standing.PAUSED, Standing.UNFUNDED):
        _check_silent(make_agent(standing), opportunities, standing)
    _check_afterwards(agent, opportunities, decisions)


def _check_no_bids(decisions: npt.NDArray[np.void]) -> None:
    """Checks that a decision not to bid says why, and nothing else."""
    is_known = np.isin(decisions["reason"], _REASONS)
    _require_all(is_known, decisions, ("reason",), "must be a NoBidReason")
    no_bid = decisions["reason"] != NoBidReason.BID
    for name in ("line_item_row", "creative_row"):
        _require_all(~no_bid | (decisions[name] == -1), decisions, (name,), "must be -1, no bid")
    for name in ("bid_hi", "bid_lo", "bid_cpm_micros", "reserved_micros"):
        _require_all(~no_bid | (decisions[name] == 0), decisions, (name,), "must be 0, no bid")


def _check_prices(decisions: npt.NDArray[np.void], opportunities: Opportunities) -> None:
    """Checks what a bid offers and reserves."""
    no_bid = decisions["reason"] != NoBidReason.BID
    bid = decisions["bid_cpm_micros"]
    _require_all(
        no_bid | ((bid > 0) & (bid <= PRICE_CPM_MICROS_MAX)), decisions, ("bid_cpm_micros",),
        f"must be > 0 and at most {PRICE_CPM_MICROS_MAX}",
    )  # fmt: skip
    _require_all(
        no_bid | (bid >= decisions["floor_cpm_micros"]), decisions,
        ("bid_cpm_micros", "floor_cpm_micros"), "a bid must not be below the floor it states",
    )  # fmt: skip
    for n in np.flatnonzero(~no_bid):
        floor, currency = _floor(decisions[n], opportunities, n)
        _require(
            int(decisions["bid_currency"][n]) != currency or int(bid[n]) >= floor,
            f"opportunity {n}: bid_cpm_micros is {bid[n]}; a bid must not be below the floor, "
            f"{floor}",
        )
    for name in ("bid_currency", "account_currency"):
        is_known = np.isin(decisions[name], list(CURRENCY_NAMES))
        _require_all(no_bid | is_known, decisions, (name,), "must be an ISO 4217 number")
    listed = opportunities.records["currencies"]
    is_listed = (listed == decisions["bid_currency"][:, None]).any(axis=1) | (listed[:, 0] == 0)
    _require_all(
        no_bid | is_listed, decisions, ("bid_currency",), "must be one that the request lists"
    )
    _require_all(
        no_bid | (decisions["rate_micros"] > 0), decisions, ("rate_micros",), "must be > 0"
    )
    quantity = opportunities.records["quantity_micros"]
    for n in np.flatnonzero(~no_bid):
        amount = int(amount_micros(int(bid[n]), int(quantity[n]), int(decisions["rate_micros"][n])))
        _require(
            int(decisions["reserved_micros"][n]) == amount,
            f"opportunity {n}: reserved_micros is {decisions['reserved_micros'][n]}; it must be "
            f"amount_micros of price, quantity and rate, {amount}",
        )


def _check_offers(decisions: npt.NDArray[np.void], opportunities: Opportunities) -> None:
    """Checks that what a bid would show, and on which deal, was asked for."""
    records = opportunities.records
    no_bid = decisions["reason"] != NoBidReason.BID
    for name in ("line_item_row", "creative_row"):
        _require_all(no_bid | (decisions[name] >= 0), decisions, (name,), "must be a row")
    for name in ("line_item_id", "creative_id"):
        _require_all(no_bid | (decisions[name] > 0), decisions, (name,), "must be an id, > 0")
    shown = decisions["format"]
    is_asked = np.isin(shown, [int(each) for each in Format]) & (shown & records["formats"] != 0)
    _require_all(no_bid | is_asked, decisions, ("format",), "must be one bit of the imp's formats")
    places = np.arange(records["sizes"].shape[1]) < records["size_count"][:, None]
    is_size = ((records["sizes"] == decisions["size"][:, None]) & places).any(axis=1)
    is_free = (records["size_count"] == 0) | (shown != Format.BANNER)
    is_ratio = (records["ratios"] == decisions["ratio"][:, None]).any(axis=1)
    is_flexible = (decisions["ratio"] != 0) & is_ratio
    _require_all(
        no_bid | is_size | is_free | is_flexible, decisions, ("size",),
        "a banner must have a size of the imp",
    )  # fmt: skip
    index, count = decisions["deal_index"], records["deal_count"]
    _require_all(
        no_bid | ((index >= -1) & (index < count)), decisions, ("deal_index",),
        "must be the place of one of the imp's deals, or -1",
    )  # fmt: skip
    for n in np.flatnonzero(~no_bid):
        place = int(records["deal_first"][n]) + int(index[n])
        code = int(opportunities.deals["code"][place]) if index[n] >= 0 else 0
        _require(
            int(decisions["deal_code"][n]) == code,
            f"opportunity {n}: deal_code is {decisions['deal_code'][n]}; it must be that of its "
            f"deal_index, {code}",
        )
    _require_all(
        no_bid | (records["is_private"] == 0) | (index >= 0), decisions, ("deal_index",),
        "must name a deal where only deals may bid",
    )  # fmt: skip
    deadline = records["arrival_ms"] + records["billing_window_ms"]
    _require_all(
        no_bid | (decisions["deadline_ms"] >= deadline), decisions, ("deadline_ms",),
        "a reservation must live as long as its billing notice may take",
    )  # fmt: skip
    for name in ("pctr", "pcvr", "propensity", "shading_factor"):
        is_share = (decisions[name] >= 0) & (decisions[name] <= 1)
        _require_all(no_bid | is_share, decisions, (name,), "must be between 0 and 1")
    for name in ("propensity", "shading_factor"):
        _require_all(no_bid | (decisions[name] > 0), decisions, (name,), "must be > 0")


def _check_ids(decisions: npt.NDArray[np.void]) -> None:
    """Checks that no two bids share an id, and that none is 0."""
    seen: dict[tuple[int, int], int] = {}
    for n in np.flatnonzero(decisions["reason"] == NoBidReason.BID):
        name = int(decisions["bid_hi"][n]), int(decisions["bid_lo"][n])
        _require(name != (0, 0), f"opportunity {n}: the bid id is 0; it must name the bid")
        _require(
            name not in seen,
            f"opportunity {n}: bid id {name[0]:016x}{name[1]:016x} is also that of opportunity "
            f"{seen.get(name)}; bid ids must be distinct",
        )
        seen[name] = int(n)


def _check_blocks(
    agent: BidAgent, opportunities: Opportunities, decisions: npt.NDArray[np.void], size: int
) -> None:
    """Checks that the block, cut into blocks of ``size``, is decided as it was in one piece."""
    for first in range(0, decisions.shape[0], size):
        part = slice(first, first + size)
        block = opportunities._replace(records=opportunities.records[part].copy())
        found = _decide(agent, block)
        for name in DECISION_DTYPE.names or ():
            is_same = found[name] == decisions[name][part]
            if is_same.all():
                continue
            n = int(np.argwhere(~is_same)[0][0])
            raise AssertionError(
                f"opportunity {first + n}: {name} is {found[name][n]} in blocks of {size} and "
                f"{decisions[name][first + n]} in one block; it must not depend on the block"
            )


def _check_silent(agent: BidAgent, opportunities: Opportunities, standing: Standing) -> None:
    """Checks that an agent that must not bid does not."""
    decisions = _decide(agent, opportunities)
    bids = np.flatnonzero(decisions["reason"] == NoBidReason.BID)
    _require(
        not bids.size,
        f"opportunity {bids[0] if bids.size else ''}: the agent is {standing.value} and bids; "
        f"a {standing.value} agent must not bid",
    )
    _check_no_bids(decisions)


def _check_afterwards(
    agent: BidAgent, opportunities: Opportunities, decisions: npt.NDArray[np.void]
) -> None:
    """Checks that an agent takes notices and time, and a block without opportunities."""
    bids = decisions[decisions["reason"] == NoBidReason.BID]
    end_ms = int(max(opportunities.records["arrival_ms"].max(), bids["deadline_ms"].max())) + 1
    agent.notice(
        tuple(
            Notice(EventKind.LOSS, bid_hi, bid_lo, end_ms, price, _OUTBID)
            for bid_hi, bid_lo, price in zip(
                bids["bid_hi"].tolist(),
                bids["bid_lo"].tolist(),
                bids["bid_cpm_micros"].tolist(),
                strict=True,
            )
        )
    )
    agent.notice(())
    agent.advance(end_ms)
    _decide(agent, opportunities._replace(records=opportunities.records[:0].copy()))


def _decide(agent: BidAgent, opportunities: Opportunities) -> npt.NDArray[np.void]:
    """Returns a copy of the decisions, which an agent may write again at its next call."""
    decisions = agent.decide(opportunities)
    count = opportunities.records.shape[0]
    _require(
        decisions.dtype == DECISION_DTYPE,
        f"decisions are of {decisions.dtype}; they must be of DECISION_DTYPE",
    )
    _require(
        decisions.shape == (count,),
        f"decisions have the shape {decisions.shape}; there must be one for each of {count} "
        "opportunities",
    )
    return decisions.copy()


def _floor(decision: np.void, opportunities: Opportunities, n: np.intp) -> tuple[int, int]:
    """Returns (price, currency) of the floor: the deal's own if it has one, else the imp's."""
    record = opportunities.records[n]
    if decision["deal_index"] >= 0:
        deal = opportunities.deals[record["deal_first"] + decision["deal_index"]]
        if deal["floor_cpm_micros"] >= 0:
            return int(deal["floor_cpm_micros"]), int(deal["floor_currency"])
    return int(record["floor_cpm_micros"]), int(record["floor_currency"])


def _require_all(
    is_kept: npt.NDArray[np.bool_],
    decisions: npt.NDArray[np.void],
    names: tuple[str, ...],
    rule: str,
) -> None:
    broken = np.flatnonzero(~is_kept)
    if broken.size:
        n = broken[0]
        found = ", ".join(f"{name} is {decisions[name][n]}" for name in names)
        raise AssertionError(f"opportunity {n}: {found}; {rule}")


def _require(is_kept: bool, message: str) -> None:
    if not is_kept:
        raise AssertionError(message)
