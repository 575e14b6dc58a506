"""Replay: real requests through the decision that serves, files of every kind, and the CLI."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bidder.catalogue import Catalogue, read_catalogue
from bidder.no_bid import EXPLANATIONS
from bidder.replay import Replay, bodies_of, summary_of
from market.decision import NoBidReason
from market.errors import BadInput
from market.exchange import DEFAULT_EXCHANGES
from tests.bidder.requests import body_of
from tests.bidder.services import NOW_MS

REPOSITORY = Path(__file__).resolve().parents[2]
REQUESTS = REPOSITORY.parent / "shared" / "requests"
FIELDLESS = {
    reason.name.lower() for reason, told in EXPLANATIONS.items() if not told.field
} - {"contradictory_request", "targeting_dimension"}  # fmt: skip


@pytest.fixture(scope="module")
def replay():
    return Replay(read_catalogue(), DEFAULT_EXCHANGES[0], NOW_MS)


@pytest.fixture(scope="module")
def real(replay):
    if not REQUESTS.is_dir():
        pytest.skip("../shared/requests is missing: real request bodies are not replayed")
    return {
        name: replay.run(name, body, NOW_MS) for name, body in bodies_of((REQUESTS,))
    }  # fmt: skip


def test_real_requests_are_never_answered_with_an_error_of_ours(real):
    assert len(real) == 43
    summary = summary_of(list(real.values()))
    assert summary.answered_5xx == 0
    assert summary.answered_200 + summary.answered_204 + summary.answered_400 == 43


def test_most_sound_real_requests_get_a_bid_and_the_others_name_the_field(real):
    manifest = json.loads((REQUESTS / "manifest.json").read_text())
    sound = {each["file"] for each in manifest if each["parses"] and "inv" not in each["kind"]}
    assert len(sound) == 34
    assert sum(real[name].status == 200 for name in sound) >= 28
    fields = {real[name].refusals[0].field for name in sound if real[name].status != 200}
    assert fields <= {
        "at", "acat", "imp.id", "imp.video|audio.protocols", "imp.native.request",
    }, "own auction type, a category nobody has, one id twice, DAAST only, no JSON"  # fmt: skip
    assert all(real[name].status != 400 for name in sound)


def test_every_imp_without_a_bid_names_the_field_that_forbids_it(real):
    refusals = [refusal for each in real.values() for refusal in each.refusals]
    assert refusals
    for refusal in refusals:
        assert refusal.text
        assert bool(refusal.field) == (refusal.reason not in FIELDLESS), refusal


def test_status_bids_and_refusals_agree_though_a_frequency_cap_counts(tmp_path):
    campaigns = msgspec.to_builtins(read_catalogue())[:1]
    for item in campaigns[0]["line_items"]:
        item["frequency_caps"] = [{"impressions": 1}]
    path = tmp_path / "c.json"
    path.write_bytes(msgspec.json.encode({"campaigns": campaigns}))
    replay = Replay(read_catalogue(path), DEFAULT_EXCHANGES[0], NOW_MS)
    body = body_of(user={"id": "u"})
    first, second = (replay.run("r", body, NOW_MS) for _ in range(2))
    assert (first.status, len(first.bids)) == (200, 1)
    assert (second.status, len(second.bids)) == (204, 0)
    assert second.refusals[0].reason == NoBidReason.FREQUENCY_CAP.name.lower()
    assert len(Catalogue(read_catalogue(path)).campaigns) == 1


def test_files_folders_ndjson_and_gzip_give_their_bodies_in_order(tmp_path):
    (tmp_path / "b.json").write_bytes(b"B")
    (tmp_path / "a.ndjson").write_bytes(b"1\n\n2\n")
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(b"C"))
    (tmp_path / "d.gz").write_bytes(b"no gzip")
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(b"3\n4"))
    (tmp_path / "README.md").write_bytes(b"about")
    (tmp_path / "manifest.json").write_bytes(b"[]")
    assert list(bodies_of((tmp_path,))) == [
        ("a.ndjson:1", b"1"), ("a.ndjson:3", b"2"), ("b.json", b"B"), ("c.json.gz", b"C"),
        ("d.gz", b"no gzip"), ("e.jsonl.gz:1", b"3"), ("e.jsonl.gz:2", b"4"),
    ]  # fmt: skip


def test_a_missing_path_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="must be a file or folder that exists"):
        list(bodies_of((tmp_path / "none",)))


def cli(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "lodestone", "replay", *map(str, arguments)],
        cwd=REPOSITORY, capture_output=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_command_prints_a_summary_as_its_last_line_of_json(tmp_path):
    (tmp_path / "good.json").write_bytes(body_of())
    (tmp_path / "high.json").write_bytes(body_of({"bidfloor": 9_000}))
    (tmp_path / "bad.json").write_bytes(b"{")
    done = cli(tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    *bodies, summary = map(json.loads, done.stdout.splitlines())
    assert [body["status"] for body in bodies] == [400, 200, 204]
    expected = {
        "files": 3, "answered_200": 1, "answered_204": 1, "answered_400": 1, "answered_5xx": 0,
        "no_bids_by_reason": {"below_floor": 1, "malformed_request": 1},
    }  # fmt: skip
    assert {key: summary[key] for key in expected} == expected


def test_the_command_tells_bad_input_in_one_line_and_leaves_with_2(tmp_path):
    done = cli(tmp_path / "none")
    assert done.returncode == 2
    assert done.stderr.decode().count("\n") == 1
    assert "none" in done.stderr.decode()
    assert not done.stdout
