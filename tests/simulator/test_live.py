"""The twin over HTTP against a small real bidder: what is sent, counted, and waited for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from market.control import ControlBlock, Word, WorkerWord
from market.deployment import write_deployment
from market.errors import NotReady
from market.events import EventKind
from market.kernels import amount_micros
from market.notices import KIND_NAMES
from simulator import scenario as scenarios
from simulator.episode import run_episode
from simulator.live import LiveExchange, _volleys, main
from simulator.live_report import LiveReport
from simulator.scenario import slices
from tests.simulator.bidders import HttpBidder, acknowledge, deployment_of, until
from tests.simulator.markets import PriceAgent, ads_of, changed, exchange_of, scenario_of

HOUR_MS = 3_600_000
PRICE = 3_000_000
SHORT = {"duration_ms": 2 * HOUR_MS, "drain_ms": HOUR_MS, "requests_per_day": 6_000}


def short(**changes):
    changes = {
        "duration_ms": 2 * HOUR_MS,
        "drain_ms": HOUR_MS,
        "requests_per_day": 6_000,
        **changes,
    }
    return changed(scenario_of(), **changes)


def played(
    folder, *, bidder=None, scenario=None, connections=1, before=None, deadline_s=20.0, **acks
):
    """(report or error, bidder, progress, control words) of an episode over HTTP."""
    bidder = bidder or HttpBidder(PRICE, ads_of())
    progress = []

    async def run():
        async with bidder:
            deployment = deployment_of(folder, bidder)
            words = ControlBlock(deployment.control_path).words
            exchange = LiveExchange(
                deployment, scenario or short(), ads_of(), seed=1, connections=connections,
                wall_ns=time.perf_counter_ns, on_progress=progress.append, deadline_s=deadline_s,
            )  # fmt: skip
            others = asyncio.create_task(acknowledge(words, **acks))
            try:
                if before is not None:
                    before(exchange, words)
                async with asyncio.timeout(60):
                    return await exchange.run(), words
            finally:
                others.cancel()

    report, words = asyncio.run(run())
    return report, bidder, progress, words


@pytest.fixture(scope="module")
def lockstep(tmp_path_factory):
    return played(tmp_path_factory.mktemp("live"))


def in_process():
    agent = PriceAgent(PRICE, ads_of())
    return run_episode(exchange_of(short()), agent, keeps_notices=True)


def test_over_http_in_lockstep_a_bidder_is_told_what_an_agent_is_told_in_process(lockstep):
    _, bidder, _, _ = lockstep
    expected = [
        (
            KIND_NAMES[notice.kind],
            f"{notice.bid_hi:016x}{notice.bid_lo:016x}",
            notice.price_cpm_micros,
            notice.value_micros,
            notice.order_id,
        )
        for notice in in_process().notices
    ]
    found = [
        (
            kind,
            token,
            round(float(query.get("m") or query.get("p") or 0) * 1e6),
            round(float(query.get("v", 0)) * 1e6),
            query.get("o", ""),
        )
        for kind, token, query in bidder.notices
    ]
    assert found == expected


def test_the_report_agrees_with_the_same_episode_in_process(lockstep):
    report, bidder, _, _ = lockstep
    run = in_process()
    result = run.result
    assert report.is_complete
    assert report.requests == len(bidder.requests) == result.opportunity_count == 500
    assert report.bids == result.bid_count
    assert report.wins == result.total("impression_count")
    assert report.losses == report.bids - report.wins
    assert report.spend_micros == result.total("spend_micros")
    assert report.notices_sent == result.notice_counts
    assert report.repeated_notices_sent == result.repeated_notice_count > 0
    assert report.notices_undelivered == result.undelivered_notice_count
    assert [(c.id, c.bids, c.wins, c.spend_micros) for c in report.creatives] == [
        (c.creative_id, c.bid_count, c.impression_count, c.spend_micros)
        for c in result.creatives
        if c.bid_count
    ]


def test_the_report_adds_up(lockstep):
    report, bidder, _, _ = lockstep
    distinct = Counter(kind for kind, _ in {(kind, token) for kind, token, _ in bidder.notices})
    assert report.events_expected == {"bid": report.bids, **distinct}
    assert report.answers == {"200": report.requests}
    assert sum(report.latency_histogram.values()) == report.requests
    assert 0 < report.latency_ms_p50 <= report.latency_ms_p99 <= report.latency_ms_max
    assert report.errors == {}
    assert report.notices_refused == {}
    assert report.notices_without_url == {}
    assert report.notice_retries == 0
    for name in ("bids", "wins", "clicks", "conversions", "spend_micros"):
        assert sum(getattr(c, name) for c in report.creatives) == sum(
            getattr(c, name) for c in report.campaigns
        )
    assert {c.id for c in report.campaigns} == {1, 2, 3}
    won = {token for kind, token, _ in bidder.notices if kind == "billing"}
    price = int(amount_micros(PRICE, 1_000_000, 1_000_000))
    assert report.spend_micros == price * len(won)
    conversions = [q for kind, _, q in bidder.notices if kind == "conversion"]
    assert len(conversions) > 5
    assert all(float(q["v"]) > 0 and q["o"].startswith("parity-1-") for q in conversions)


def test_macros_reach_the_bidder_filled(lockstep):
    report, bidder, _, _ = lockstep
    for kind, token, query in bidder.notices:
        if kind == "billing":
            shown_ms = int(query["t"])
            assert report.clock_ms - 2 * 86_400_000 < shown_ms <= report.clock_ms
            assert query == {"p": "3.000000", "b": token, "t": str(shown_ms)}
        if kind == "impression":
            assert query == {"p": "3.000000", "c": "USD"}
        if kind == "loss":
            assert query["l"] == "102"
            assert float(query["m"]) > 3.0
            # Market bid ratio: the price that won by the bid.
            assert float(query["x"]) > 1.0


def test_lockstep_uses_one_connection_for_requests_and_one_for_notices(lockstep):
    _, bidder, _, _ = lockstep
    assert bidder.connections == 2
    numbers = [int(request["id"].rsplit("-", 1)[1]) for request in bidder.requests]
    assert numbers == list(range(500))


def test_the_clock_is_stepped_once_a_slice_and_ends_at_the_end(lockstep):
    report, _, progress, words = lockstep
    pieces = list(slices(short()))
    assert words[Word.CLOCK_STEP] == 1 + len(pieces)
    assert words[Word.CLOCK_MS] == pieces[-1].end_ms == report.clock_ms
    assert progress[-1].share_done == 1.0
    assert progress[-1].requests == report.requests
    walls = [line.wall_s for line in progress[:-1]]
    assert all(b - a >= 0.25 for a, b in itertools.pairwise(walls))


def test_with_several_connections_the_counts_are_the_same(lockstep, tmp_path):
    report, bidder, _, _ = played(tmp_path, connections=4)
    alone = lockstep[0]
    assert 4 < bidder.connections <= 8
    for name in ("requests", "bids", "wins", "notices_sent", "events_expected", "spend_micros",
                 "creatives", "campaigns", "errors"):  # fmt: skip
        assert getattr(report, name) == getattr(alone, name), name
    assert sorted(map(repr, bidder.notices)) == sorted(map(repr, lockstep[1].notices))


def test_a_bidder_that_says_no_is_counted(tmp_path):
    bidder = HttpBidder(PRICE, ads_of(), modulus=3)
    report, _, _, _ = played(tmp_path, bidder=bidder)
    assert report.answers["204"] == report.no_bids > 0
    assert report.bids + report.no_bids == report.requests


def spoiled(change):
    def spoil(response):
        raw = change(response, response["seatbid"][0]["bid"][0])
        return raw or (200, msgspec.json.encode(response))

    return spoil


def put(name, value):
    return spoiled(lambda _, bid: bid.update({name: value}))


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (put("price", 0.01), "below_floor"),
        (put("impid", "9"), "wrong_imp_id"),
        (put("w", 1), "size_not_allowed"),
        (put("crid", "4000"), "creative_filtered"),
        (put("crid", None), "missing_crid"),
        (put("adm", None), "missing_adm"),
        (put("mtype", 4), "format_not_allowed"),
        (spoiled(lambda response, _: response.update(id="other")), "wrong_request_id"),
        (spoiled(lambda response, _: response.update(cur="EUR")), "wrong_currency"),
    ],
)
def test_bids_that_break_a_rule_are_counted_by_name_and_lose(tmp_path, spoil, error):
    # Banners only, with a floor: players take any size, and a floor of 0 refuses nothing.
    scenario = scenario_of()
    text = tuple(p for p in scenario.publishers if p.publisher_id == "pub-1")
    only = msgspec.structs.replace(text[0], placements=text[0].placements[1:])
    scenario = short(publishers=(only,), duration_ms=HOUR_MS, requests_per_day=600)
    bidder = HttpBidder(9_000_000, ads_of(), spoil=spoil)
    report, _, _, _ = played(tmp_path, bidder=bidder, scenario=scenario)
    assert report.errors == {error: report.bids}
    assert report.wins == 0
    assert report.losses == report.bids == 25
    assert {kind for kind, _, _ in bidder.notices} == {"loss"}


@pytest.mark.parametrize(
    ("answer", "name"), [((200, b"<html>"), "undecodable"), ((500, b""), None)]
)
def test_answers_that_are_no_bid_response_are_counted(tmp_path, answer, name):
    bidder = HttpBidder(PRICE, ads_of(), spoil=lambda _: answer)
    report, _, _, _ = played(tmp_path, bidder=bidder, scenario=short(duration_ms=HOUR_MS))
    assert report.answers == {str(answer[0]): report.requests}
    assert report.errors == ({name: report.requests} if name else {})
    assert report.bids == report.no_bids == 0


def test_more_bids_than_one_are_counted_and_the_first_counts(tmp_path):
    def twice(response, bid):
        response["seatbid"][0]["bid"].append(dict(bid, id="0" * 32))

    bidder = HttpBidder(PRICE, ads_of(), spoil=spoiled(twice))
    report, _, _, _ = played(tmp_path, bidder=bidder, scenario=short(duration_ms=HOUR_MS))
    assert report.errors == {"more_than_one_bid": report.requests}
    assert report.bids == report.requests


def test_notices_without_a_url_are_counted_and_not_sent(tmp_path):
    bidder = HttpBidder(PRICE, ads_of(), spoil=put("burl", None))
    report, _, _, _ = played(tmp_path, bidder=bidder, scenario=short(duration_ms=HOUR_MS))
    assert report.notices_without_url["billing"] >= report.wins > 0
    assert "billing" not in report.notices_sent
    assert report.events_expected["win"] == report.wins
    # Of banners the billing notice charges, of videos the impression.
    shown = {token for kind, token, _ in bidder.notices if kind == "impression"}
    charged = report.spend_micros // int(amount_micros(PRICE, 1_000_000, 1_000_000))
    assert charged == len(shown & bidder.videos) > 0


def test_notices_are_pipelined_up_to_a_conversion_that_needs_the_answer_to_its_click():
    win, click, conversion = (
        int(kind) for kind in (EventKind.WIN, EventKind.CLICK, EventKind.CONVERSION)
    )
    rows = [(1, win), (2, click), (1, conversion), (2, conversion), (3, win), (2, conversion)]
    volleys = _volleys([(*row, 0, 0) for row in rows])
    assert [[row[:2] for row in volley] for volley in volleys] == [rows[:3], rows[3:]]


def test_a_recorder_that_is_not_ready_is_asked_again_until_it_is(lockstep, tmp_path):
    bidder = HttpBidder(PRICE, ads_of())
    bidder.refusals.update({"billing": 3, "win": 2})
    report, _, _, _ = played(tmp_path, bidder=bidder)
    assert report.notice_retries == 5
    assert report.notices_sent == lockstep[0].notices_sent
    assert report.events_expected == lockstep[0].events_expected
    # Those that were asked again arrive after others of their slice; none is missing.
    assert sorted(n[:2] for n in bidder.notices) == sorted(n[:2] for n in lockstep[1].notices)


def test_a_recorder_that_stays_away_is_named(tmp_path):
    bidder = HttpBidder(PRICE, ads_of())
    bidder.refusals.update({"loss": 10**9})
    with pytest.raises(NotReady, match=r"loss notice to 127\.0\.0\.1:\d+: 503 for 0\.3 s"):
        played(tmp_path, bidder=bidder, deadline_s=0.3)


@pytest.mark.parametrize(
    ("who", "awaited"), [("recorder", "recorder"), ("controller", "controller")]
)
def test_who_does_not_acknowledge_the_clock_is_named(tmp_path, who, awaited):
    with pytest.raises(NotReady, match=rf"clock step 1 .*{awaited} is at 0.*after 0\.2 s"):
        played(tmp_path, deadline_s=0.2, **{who: False})


def test_nothing_is_asked_before_every_worker_answers(tmp_path):
    bidder = HttpBidder(PRICE, ads_of())

    def unready(exchange, _):
        exchange._block.worker(0)[WorkerWord.IS_READY] = 0

    with pytest.raises(NotReady, match=r"bid workers \[0\] of .* are not ready after 1 s"):
        played(tmp_path, bidder=bidder, before=unready, deadline_s=0.2)
    assert bidder.requests == []


def test_a_bidder_that_cannot_be_reached_loses_its_requests(tmp_path):
    def away(exchange, _):
        for lane in exchange._bid_lanes:
            lane.port = 1

    report, _, _, _ = played(tmp_path, before=away, scenario=short(duration_ms=HOUR_MS))
    assert report.answers == {"lost": report.requests}
    assert report.bids == 0


def test_the_stop_word_ends_the_episode_early(tmp_path):
    def stop(_, words):
        words[Word.STOP] = 1

    report, _, _, _ = played(tmp_path, before=stop, scenario=short(duration_ms=24 * HOUR_MS))
    assert not report.is_complete
    assert report.requests < 6_000


def command(folder, deployment, *arguments):
    return [
        sys.executable, "-m", "simulator.live", str(folder / "deployment.json"),
        "--scenario", str(folder / "short.toml"), "--campaigns", str(folder / "ads.json"),
        "--out", str(folder / "report.json"), *arguments,
    ]  # fmt: skip


def prepare(folder, bidder):
    deployment = deployment_of(folder, bidder)
    write_deployment(deployment)
    text = (Path(scenarios.__file__).parent / "scenarios" / "parity.toml").read_text("utf-8")
    for field, value in SHORT.items():
        text, count = re.subn(rf"^{field} = .*$", f"{field} = {value}", text, flags=re.MULTILINE)
        assert count == 1
    (folder / "short.toml").write_text(text, "utf-8")
    (folder / "ads.json").write_bytes(msgspec.json.encode(ads_of()))
    return deployment


async def start(folder, deployment, *arguments):
    return await asyncio.create_subprocess_exec(
        *command(folder, deployment, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def test_the_command_writes_progress_lines_and_the_report(lockstep, tmp_path):
    async def run():
        async with HttpBidder(PRICE, ads_of()) as bidder:
            deployment = prepare(tmp_path, bidder)
            words = ControlBlock(deployment.control_path).words
            others = asyncio.create_task(acknowledge(words))
            process = await start(tmp_path, deployment, "--connections", "1")
            out, err = await process.communicate()
            others.cancel()
            return process.returncode, out, err

    code, out, err = asyncio.run(run())
    assert (code, err) == (0, b"")
    lines = [msgspec.json.decode(line) for line in out.splitlines()]
    assert {line["kind"] for line in lines[:-1]} == {"progress"}
    assert lines[-1]["kind"] == "result"
    report = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=LiveReport)
    assert report == msgspec.convert(lines[-1], LiveReport)
    for name in ("requests", "bids", "wins", "spend_micros", "events_expected", "notices_sent"):
        assert getattr(report, name) == getattr(lockstep[0], name)


def test_sigterm_ends_the_command_within_two_seconds_with_a_partial_report(tmp_path):
    async def run():
        async with HttpBidder(PRICE, ads_of()) as bidder:
            deployment = prepare(tmp_path, bidder)
            words = ControlBlock(deployment.control_path).words
            process = await start(tmp_path, deployment)
            # Nobody acknowledges the first step, so the command waits.
            await until(lambda: words[Word.CLOCK_STEP] == 1 or process.returncode is not None)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(2):
                return await process.wait()

    assert asyncio.run(run()) == 0
    report = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=LiveReport)
    assert not report.is_complete
    assert report.requests == 0


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        ("deployment.json", "deployment"),
        ("ads.json", "--campaigns ads.json"),
        ("short.toml", "short"),
    ],
)
def test_a_missing_file_is_one_line_on_stderr_and_exit_status_2(tmp_path, capsys, missing, text):
    async def run():
        async with HttpBidder(PRICE, ads_of()) as bidder:
            return prepare(tmp_path, bidder)

    deployment = asyncio.run(run())
    (tmp_path / missing).unlink()
    with contextlib.suppress(SystemExit):
        assert main(command(tmp_path, deployment)[3:]) == 2
    err = capsys.readouterr().err
    assert text in err
    assert err.count("\n") == 1


def test_no_connection_at_all_is_bad_input(tmp_path, capsys):
    async def run():
        async with HttpBidder(PRICE, ads_of()) as bidder:
            return prepare(tmp_path, bidder)

    deployment = asyncio.run(run())
    assert main([*command(tmp_path, deployment)[3:], "--connections", "0"]) == 2
    assert "--connections is 0" in capsys.readouterr().err
