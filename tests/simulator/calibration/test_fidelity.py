"""The report: a good twin is told from a bad one, and a row without evidence never passes."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.calibration.fidelity import Effort, compare, naive_day, resampled, verdict_of
from simulator.calibration.fidelity_rows import rows_for, thinned, wasserstein
from simulator.calibration.fit import calibrate
from simulator.calibration.log import NEVER, Split, rows_of, split
from simulator.calibration.terms import Estimate
from tests.reference import calibration as reference
from tests.simulator.calibration.logs import bid_log

SMALL = Effort(twin_days=4, naive_days=4, floor_pairs=20)
NUMBERS = st.lists(st.integers(-50, 50), min_size=4, max_size=4)


@pytest.fixture(scope="module")
def parts():
    return split(bid_log(24_000, days=4))


@pytest.fixture(scope="module")
def fitted(parts):
    return calibrate(parts.fitted)


@pytest.fixture(scope="module")
def rows(parts, fitted):
    return {row.name: row for row in compare(fitted, parts, seed=1, effort=SMALL)}


@pytest.mark.parametrize(
    ("twin", "floor", "detectable", "lead", "verdict"),
    [
        (0.1, 0.05, 0.1, (0.1, 0.04), "better"),
        (0.1, 0.05, 0.1, (0.1, 0.06), "worse"),
        (0.2, 0.05, 0.1, (-0.1, 0.01), "worse"),
        (0.1, 0.05, 0.1, (0.0, 0.0), "worse"),
        (0.04, 0.05, 0.2, (-0.03, 0.01), "within noise"),
        (0.0, 0.3, 0.5, (0.5, 0.01), "no evidence"),
        (0.0, 0.3, None, (0.5, 0.01), "no evidence"),
    ],
)
def test_a_verdict(twin, floor, detectable, lead, verdict):
    assert verdict_of(twin, floor, detectable, lead) == verdict


def test_every_asked_row_of_a_ledger_is_there(rows):
    assert {
        "requests by hour", "win price", "win price by hour", "price to win by hour",
        "win rate by bid", "CTR by slot", "conversions by delay", "spend by bid multiplier",
    } <= set(rows)  # fmt: skip


def test_a_twin_of_the_truth_is_never_far_off(rows):
    assert all(row.twin < 1.3 * row.floor for row in rows.values()), rows
    for name in ("requests per hour", "win price", "win rate", "CTR", "spend by bid multiplier"):
        assert rows[name].verdict in {"within noise", "better"}, rows[name]


def test_a_wrong_twin_is_told_to_be_worse(parts, fitted):
    rival = fitted.rivals.rivals[0]
    dear = msgspec.structs.replace(rival, cpm_median=Estimate(value=3.0, low=3.0, high=3.0))
    wrong = msgspec.structs.replace(
        fitted,
        rivals=msgspec.structs.replace(fitted.rivals, rivals=(dear,)),
        response=msgspec.structs.replace(
            fitted.response,
            ctr_by_scene=tuple(
                Estimate(value=2 * rate.value, low=0, high=1)
                for rate in fitted.response.ctr_by_scene
            ),
        ),
    )
    rows = {row.name: row for row in compare(wrong, parts, seed=1, effort=SMALL)}
    for name in ("win rate", "win rate by bid", "price to win by hour", "spend by bid multiplier"):
        assert rows[name].verdict == "worse", rows[name]
    assert rows["CTR"].twin > 0.5


def test_a_row_that_could_not_detect_a_fifth_is_no_evidence_even_where_the_twin_is_right(fitted):
    parts = split(bid_log(24_000, days=4))
    few = parts.held_back._replace(clicked=thinned(parts.held_back, "clicked", 0.95, 5).clicked)
    rows = compare(fitted, Split(parts.fitted, few, "thin"), seed=1, effort=SMALL)
    (ctr,) = (row for row in rows if row.name == "CTR")
    assert ctr.verdict == "no evidence"
    assert ctr.detectable is None or ctr.detectable > 0.2


def test_a_held_back_part_without_clicks_or_orders_is_no_evidence_and_not_left_out(fitted, parts):
    nothing = np.zeros_like(parts.held_back.clicked)
    none = parts.held_back._replace(clicked=nothing, converted=nothing)
    found = compare(fitted, Split(parts.fitted, none, "none"), seed=1, effort=SMALL)
    verdicts = {row.name: row.verdict for row in found}
    for name in ("CTR", "CTR by slot", "conversions per click", "conversions by delay"):
        assert verdicts[name] == "no evidence"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_handful_of_held_back_rows_is_no_evidence_and_no_number_is_missing(fitted, parts, count):
    few = rows_of(parts.held_back, np.arange(count))
    few = few._replace(
        requests=np.zeros_like(few.requests), covered=np.zeros_like(few.covered),
    )  # fmt: skip
    for row in compare(fitted, Split(parts.fitted, few, "few"), seed=1, effort=SMALL):
        assert row.verdict == "no evidence", row
        assert np.isfinite([row.twin, row.naive, row.floor, *row.lead]).all(), row


def test_a_log_that_tells_prices_to_winners_only_is_held_against_a_twin_that_does_the_same():
    log = bid_log(24_000, days=4)
    lost = log.has_won == 0
    hidden = log._replace(
        least_cpm_micros=np.where(lost, log.bid_cpm_micros, log.least_cpm_micros),
        most_cpm_micros=np.where(lost, NEVER, log.most_cpm_micros),
    )
    parts = split(hidden)
    assert 0.5 < parts.held_back.is_told.mean() < 0.9
    found = compare(calibrate(parts.fitted), parts, seed=1, effort=SMALL)
    for row in found:
        if row.name in ("price to win by hour", "spend by bid multiplier"):
            assert row.twin < 1.3 * row.floor, row


def test_requests_that_come_in_bursts_have_a_wider_noise_floor(fitted, parts):
    bursts = msgspec.structs.replace(
        fitted, supply=msgspec.structs.replace(fitted.supply, dispersion=25.0)
    )
    floors = []
    for calibration in (fitted, bursts):
        found = compare(calibration, parts, seed=1, effort=SMALL)
        (row,) = (row for row in found if row.name == "requests by hour")
        floors.append(row.floor)
    assert fitted.supply.dispersion < 2
    assert 3 < floors[1] / floors[0] < 7


@pytest.mark.parametrize("has_won", [0, 1])
def test_a_dozen_bids_that_all_ended_alike_are_no_evidence(fitted, parts, has_won):
    few = rows_of(parts.held_back, np.flatnonzero(parts.held_back.has_won == has_won)[:12])
    found = compare(fitted, Split(parts.fitted, few, "few"), seed=1, effort=SMALL)
    (row,) = (row for row in found if row.name == "win rate")
    assert row.held_back_values == (float(has_won),)
    # A resampling of them is always the same; that is no proof that others would end so, too.
    assert row.floor >= 0.25
    assert row.verdict == "no evidence"


def test_an_interrupted_comparison_goes_on_and_ends_the_same(parts, fitted):
    steps = []
    whole = compare(fitted, parts, seed=1, effort=SMALL, on_step=steps.append)
    again = []
    resumed = compare(
        fitted, parts, seed=1, effort=SMALL, done=tuple(steps[:13]), on_step=again.append
    )
    assert resumed == whole
    assert len(steps) == 28
    assert again == steps[13:]


def test_resampling_keeps_users_together_and_the_size(parts):
    log = parts.held_back
    users = np.arange(log.row_count, dtype=np.uint64) // np.uint64(4) + np.uint64(1)
    drawn = resampled(log._replace(user=users), 3, 1.0)
    assert drawn.row_count == pytest.approx(log.row_count, rel=0.1)
    counts = np.unique(drawn.user, return_counts=True)[1]
    assert (counts % 4 == 0).all(), "a user comes with all of its rows"


def test_the_naive_day_is_made_of_the_same_hours_of_the_fitted_part(parts):
    drawn = naive_day(parts.fitted, parts.held_back, 5, 1.0)
    assert drawn.row_count == parts.held_back.row_count
    by_price = {
        (hour, bid)
        for hour, bid in zip(
            parts.fitted.hour.tolist(), parts.fitted.bid_cpm_micros.tolist(), strict=True
        )
    }
    assert all(
        pair in by_price
        for pair in zip(drawn.hour.tolist(), drawn.bid_cpm_micros.tolist(), strict=True)
    )


def test_every_row_sees_a_change_of_itself(parts):
    log = parts.held_back
    for row in rows_for(log):
        small, large = (row.distance(log, row.perturb(log, by, 1)) for by in (0.1, 0.4))
        assert row.distance(log, log) == pytest.approx(0.0, abs=1e-12), row.name
        assert 0.05 < small < 0.2, (row.name, small)
        assert large > 2 * small, (row.name, small, large)


@given(NUMBERS, NUMBERS)
def test_the_wasserstein_distance_is_the_mean_distance_of_the_sorted(a, b):
    got = wasserstein(np.array(a, float), np.array(b, float))
    assert got == pytest.approx(reference.wasserstein(a, b), abs=1e-9)
