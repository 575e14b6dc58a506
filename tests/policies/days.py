"""Plans and days of progress for the tests of bid policies."""

from __future__ import annotations

from hypothesis import strategies as st

from policies.bidding.protocol import Plan, Progress

DAY_MS = 86_400_000
START_MS = 1_700_006_400_000
MONEY = st.integers(1, 10**15)


def plan(**values):
    return Plan(
        **{
            "budget_micros": 100_000_000, "conversion_micros": 5_000_000, "has_target": True,
            "start_at_ms": START_MS, "end_at_ms": START_MS + DAY_MS, "tick_ms": 1_800_000, **values,
        }
    )  # fmt: skip


def progress(share_of_day=0.5, **values):
    """Half a day gone and half of the budget of ``plan()`` spent, exactly at target."""
    found = {
        "now_ms": START_MS + int(share_of_day * DAY_MS), "budget_spend_micros": 50_000_000,
        "impressions": 1_000, "clicks": 100, "conversions": 10, "expected_conversions": 10.0,
        "expected_conversions_lagged": 10.0, **values,
    }  # fmt: skip
    return Progress(spend_micros=found.pop("spend_micros", found["budget_spend_micros"]), **found)


PLANS = st.builds(
    plan,
    budget_micros=MONEY,
    conversion_micros=MONEY,
    has_target=st.booleans(),
    end_at_ms=st.integers(START_MS + 60_000, START_MS + 60 * DAY_MS),
    tick_ms=st.integers(1_000, 25_000_000),
)

EXPECTED = st.floats(0, 1e12, allow_nan=False)

DAYS = st.lists(
    st.builds(
        Progress,
        now_ms=st.integers(START_MS - DAY_MS, START_MS + 61 * DAY_MS),
        budget_spend_micros=st.integers(0, 2 * 10**15),
        spend_micros=st.integers(0, 2 * 10**15),
        impressions=st.integers(0, 10**9),
        clicks=st.integers(0, 10**9),
        conversions=st.integers(0, 10**9),
        expected_conversions=EXPECTED,
        expected_conversions_lagged=EXPECTED,
    ),
    min_size=1,
    max_size=12,
)
