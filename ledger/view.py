"""What ``GET /ledger`` says: the totals that the controller, reports and people read.

All of it is as of the last commit: what is not on disk is in none of these numbers. Counters that
say "since start" begin at 0 with the process; the others are rebuilt from the log.
"""

from __future__ import annotations

import msgspec


class BudgetView(msgspec.Struct, frozen=True):
    """One budget, in its currency.

    Attributes:
        budget_id: as in the snapshot.
        limit_micros: what may be spent; 0 until a snapshot named the budget.
        spent_on_time_micros: never above the limit.
        spent_late_micros: paid for wins that came after their deadline or loss notice.
        held_micros: leased to workers and not yet spent.
        open_count: reservations that may still be charged on time.
        adjusted_micros: credits (below 0) and corrections booked afterwards; counts as spent.
        allotted_micros: where machines share budgets, what this one may spend and hold of it.
        others_spent_micros: what the other machines have spent of it, as last told.
    """

    budget_id: int
    limit_micros: int
    spent_on_time_micros: int
    spent_late_micros: int
    held_micros: int
    open_count: int
    adjusted_micros: int = 0
    allotted_micros: int | None = None
    others_spent_micros: int = 0


class ActivityView(msgspec.Struct, frozen=True):
    """What became of the bids of one line item or creative; test bids are left out.

    Attributes:
        id: of the line item or creative.
        bids: made.
        wins: bids with a win, billing or impression notice.
        impressions: bids with a billing or impression notice.
        clicks: bids with a click.
        conversions: orders.
        conversion_value_micros: their reported value, account currency.
        spend_micros: charged, on time and late, account currency.
        expected_clicks: sum of pctr over the impressions.
        expected_conversions: sum of pctr * pcvr over the impressions.
    """

    id: int
    bids: int
    wins: int
    impressions: int
    clicks: int
    conversions: int
    conversion_value_micros: int
    spend_micros: int
    expected_clicks: float
    expected_conversions: float


class ExchangeView(msgspec.Struct, frozen=True):
    """How one exchange's notices behave.

    Attributes:
        name: of its profile; its number where there is none; "" for notices nobody signed.
        disputed: charging notices with a price above the reservation, or that name another
            currency, another ad or more impressions than the bid.
        late: charging notices that were paid as late wins.
        duplicates_ignored: repeats, since start.
        unknown: notices of bids or budgets that the ledger does not know, since start.
        too_old: charging notices that came days after their deadline, since start; not taken.
        malformed: notices whose macros cannot be read, since start; not taken.
        forged: notices whose signature is wrong, since start.
        audits: test renders (macros filled with AUDIT), since start.
        wrong_kind: requests for a kind of notice that there is not, since start.
        reordered: notices that came after one that they must precede, or beside one that they
            exclude (a win and a loss).
        macros_ignored: values told for confirmation that cannot be read, since start.
        faults: the malformed notices by ``ledger.notice_price.Fault``, since start.
    """

    name: str
    disputed: int
    late: int
    duplicates_ignored: int
    unknown: int
    too_old: int
    malformed: int
    forged: int
    audits: int
    wrong_kind: int = 0
    reordered: int = 0
    macros_ignored: int = 0
    faults: dict[str, int] = msgspec.field(default_factory=dict)


class NodeStatus(msgspec.Struct, frozen=True):
    """How a recorder stands with the owner of its budgets, for ``GET /ledger`` and the metrics.

    Attributes:
        node: its name.
        is_open: the owner has answered this process; before, it leases nothing.
        contact_ms_ago: since the last answer; -1 if there was none.
        turns, failures: answered turns and failed ones, since start.
        asked, refused: statements that asked for money, and those that got none, since start.
        trouble: why the last turn failed; "" if it did not.
    """

    node: str
    is_open: bool
    contact_ms_ago: int
    turns: int
    failures: int
    asked: int
    refused: int
    trouble: str


class LedgerView(msgspec.Struct, frozen=True):
    """The whole answer.

    Attributes:
        at_ms: the run's clock.
        sequence: last frame of the event log that is on disk and counted here.
        is_writable: whether the last commit worked; while not, notices are answered 503.
        unfunded_bids: bids that took more than their worker held; any is a bug of a worker.
        budgets, line_items, creatives: ordered by id.
        exchanges: those that sent anything, by name.
        future_bids: bids made later than now by more than clocks differ, since start.
        lost_frames: frames of the log that a repair gave up; what they said is in no number here.
        node: how this machine stands with the owner of shared budgets; None: they are its own.
    """

    at_ms: int
    sequence: int
    is_writable: bool
    unfunded_bids: int
    budgets: tuple[BudgetView, ...]
    line_items: tuple[ActivityView, ...]
    creatives: tuple[ActivityView, ...]
    exchanges: tuple[ExchangeView, ...]
    future_bids: int = 0
    lost_frames: int = 0
    node: NodeStatus | None = None
