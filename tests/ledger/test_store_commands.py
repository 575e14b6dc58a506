"""``lodestone store`` beside a running store and after it: the same answers, each noted."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from pyarrow import dataset

import lodestone
from ledger.privacy.salts import Salts
from market.chance import user_key
from market.deployment import read_deployment, write_deployment
from market.events import EVENT_DTYPE, EventKind
from market.notices import notice_path, sign
from tests.ledger.bids import bid_event, token_of
from tests.ledger.stores import START_MS, RunFolder, made_up_events

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = {"LODESTONE_PRIVACY_KEY": "ab" * 32}
SPAN = ("--start", "2026-01-01", "--end", "2026-01-04")
DAYS = ("--first-day", "2026-01-01", "--last-day", "2026-01-02")
USER = "somebody@example"


def run(*words, stdin="", **environment):
    """What the front door says to a command line: (code, standard output, standard error)."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    code = 0
    room = [] if words[0] == "attribute" else ["store"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lodestone", *room, *map(str, words)])
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            lodestone.main()
        except SystemExit as left:
            code = int(left.code or 0)
    return code, *(stream.buffer.getvalue().decode() for stream in (out, err))


def said(*words, stdin="", **environment):
    code, out, err = run(*words, stdin=stdin, **environment)
    assert code == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """A run whose store has loaded some events, a fifth of them of one user, and is up."""
    root = tmp_path_factory.mktemp("run")
    runs = RunFolder(root)
    events = made_up_events(1_000, seed=1)
    salt = bytes.fromhex(runs.deployment.user_salt_hex)
    events["user_key"] = np.where(np.arange(1_000) % 5 == 0, user_key(salt, USER), 77)
    with runs.running() as process:
        runs.wait_for(runs.write(events), process)
        yield runs


def test_the_same_is_answered_beside_a_store_and_after_it(folder, tmp_path):
    root = folder.deployment.root
    words = ("query", root, "--measure", "bids", "--measure", "spend_micros", "--by",
             "campaign_id", *SPAN, "--json")  # fmt: skip
    beside = said(*words)
    assert beside["columns"] == ["campaign_id", "currency", "bids", "spend_micros"]
    assert len(beside["rows"]) == 5
    own = said(*words, "--advertiser", "2", "--where", "currency=USD", "--parquet",
               tmp_path / "own.parquet")  # fmt: skip
    assert own["rows"] == [row for row in beside["rows"] if row[0] in (3, 4)]
    assert dataset.dataset(tmp_path / "own.parquet").to_table().num_rows == 2
    assert said("roll-up", root)["days"]
    assert said(*words)["rows"] == beside["rows"]
    found = said("export", root, tmp_path / "out", *DAYS)
    assert found["rows"] == 1_000
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rows"] == 1_000


def test_invalid_traffic_is_marked_from_rules_and_evidence(folder, tmp_path):
    root = folder.deployment.root
    (tmp_path / "ranges.txt").write_text("192.0.2.0/24\n")
    path = notice_path(EventKind.CLICK, *sign(bytes(32), token_of(bid_event(3))))
    (tmp_path / "access.log").write_text(f'192.0.2.1 - - [x] "GET {path} HTTP/1.1" 302 0\n')
    (tmp_path / "rules.json").write_text('{"clicks_max": 0}')
    done = said("mark", root, *DAYS, "--data-centres", tmp_path / "ranges.txt", "--access-log",
                tmp_path / "access.log", "--rules", tmp_path / "rules.json")  # fmt: skip
    assert done["events_by_reason"]["CLICK_RATE"] > 50
    assert done["rows_written"] == done["events"]
    code, _, err = run("mark", root, *DAYS, "--access-log", tmp_path / "access.log")
    assert (code, "one is of no use without the other" in err) == (2, True)


def test_a_user_gets_what_is_theirs_is_erased_and_both_stand_in_the_log(folder):
    root = folder.deployment.root
    code, out, _ = run("access", root, stdin=f"{USER}\n")
    assert code == 0
    assert len(out.splitlines()) == 200
    assert said("erase", root, stdin=USER) == {"type": "erased", "users": 1, "events": 200}
    assert run("access", root, stdin=USER)[1] == ""
    text = (root / "audit.log").read_text()
    actions = [json.loads(line)["action"] for line in text.splitlines()]
    assert actions[-3:] == ["access", "erase", "access"]
    assert USER not in text
    subjects = {json.loads(line)["subject"] for line in text.splitlines()[-3:]}
    assert len(subjects) == 1
    chain = said("audit", root)
    assert chain["entries"] == len(actions)
    assert said("audit", root, "--head", chain["head"]) == chain
    code, _, err = run("audit", root, "--head", "f" * 64)
    assert (code, "its end was removed" in err) == (2, True)


def test_a_new_salt_makes_new_pseudonyms_and_the_old_are_found_until_their_time_is_over(
    tmp_path: Path,
) -> None:
    runs = RunFolder(tmp_path)
    deployment = msgspec.structs.replace(runs.deployment, user_salt_hex="0a" * 16)
    write_deployment(deployment)
    old = bytes.fromhex(deployment.user_salt_hex)
    code, _, err = run("rotate-salt", tmp_path)
    assert (code, "LODESTONE_PRIVACY_KEY" in err) == (2, True)
    assert said("rotate-salt", tmp_path, **KEY) == {"old_salts": 1}
    new = bytes.fromhex(read_deployment(runs.path).user_salt_hex)
    assert new != old
    assert (tmp_path / "user_salts.sealed").stat().st_mode & 0o077 == 0
    events = made_up_events(20, seed=2)
    events["user_key"][:4] = user_key(old, USER)
    events["user_key"][4:7] = user_key(new, USER)
    with runs.running() as process:
        runs.wait_for(runs.write(events), process)
        assert len(run("access", tmp_path, stdin=USER, **KEY)[1].splitlines()) == 7
        code, _, err = run("access", tmp_path, stdin=USER)
        assert (code, "LODESTONE_PRIVACY_KEY" in err) == (2, True)
        assert said("rotate-salt", tmp_path, "--keep-days", "0", **KEY) == {"old_salts": 1}
        # What was used until a moment ago is kept until the next change; what was old is gone.
        assert len(run("access", tmp_path, stdin=USER, **KEY)[1].splitlines()) == 3
    assert Salts(new).user_keys(USER) == (user_key(new, USER),)


def one_click_and_one_conversion() -> np.ndarray:
    """A click of a phone's user, and a conversion by a laptop's, of one advertiser."""
    events = np.zeros(2, EVENT_DTYPE)
    events["kind"] = EventKind.CLICK, EventKind.CONVERSION
    events["bid_hi"] = events["bid_lo"] = events["id_hi"] = events["id_lo"] = 1, 2
    events["bid_ms"] = events["ts_ms"] = events["recv_ms"] = START_MS, START_MS + 60_000
    events["advertiser_id"] = events["campaign_id"] = 1
    events["campaign_id"][0] = 42
    events["account_currency"] = 840
    events["order_code"][1] = 9
    events["user_key"] = [user_key(bytes(16), name) for name in ("phone", "laptop")]
    return events


def test_devices_are_joined_by_consent_until_it_is_withdrawn(tmp_path: Path) -> None:
    runs = RunFolder(tmp_path)
    with runs.running() as process:
        runs.wait_for(runs.write(one_click_and_one_conversion()), process)

    def earner(*words):
        asked = ("attribute", tmp_path, "--model", "last-click", "--json")
        (earned,) = said(*asked, *words, **KEY)["channels"]
        return earned["channel"]

    def consents(**values):
        return "".join(
            json.dumps({"user_id": name, "person": "ann", "consented_ms": 5, "consent": "form 2",
                        **values}) + "\n"
            for name in ("phone", "laptop")
        )  # fmt: skip

    assert earner() == -1
    code, _, err = run("attribute", tmp_path, "--join-devices", **KEY)
    assert (code, "nobody consented" in err) == (2, True)
    assert said("consent", tmp_path, stdin=consents(), **KEY) == {"joined": 2, "withdrawn": 0}
    assert earner("--join-devices") == 42
    assert earner() == -1
    body = (tmp_path / "users.sqlite").read_bytes()
    assert not any(word in body for word in (b"phone", b"laptop", b"ann", b"form 2"))
    code, _, err = run("consent", tmp_path, stdin='{"user_id": "canary"}', **KEY)
    assert (code, "line 1" in err, "canary" in err) == (2, True, False)
    assert said("erase", tmp_path, stdin="phone", **KEY)["events"] == 1
    gone = consents(is_withdrawn=True)
    assert said("consent", tmp_path, stdin=gone, **KEY) == {"joined": 0, "withdrawn": 1}
    assert earner("--join-devices") == -1


def test_days_are_dropped_from_a_store_that_does_not_run(tmp_path: Path) -> None:
    runs = RunFolder(tmp_path)
    code, _, err = run("retain", tmp_path)
    assert (code, "never started" in err) == (2, True)
    with runs.running() as process:
        runs.wait_for(runs.write(made_up_events(100, seed=3)), process)
    done = said("retain", tmp_path, "--today", "2026-01-03", "--event-days", "2", "--user-days",
                "1")  # fmt: skip
    assert done["event_days_dropped"] == 1
    assert done["events_unlinked"] > 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("query", "--measure", "sum(x)", *SPAN), "must be one of bids"),
        (("query", "--measure", "bids", "--start", "x", "--end", "y"), "YYYY-MM-DD"),
        (("query", "--measure", "bids", *SPAN, "--where", "campaign_id"), "name=value"),
        (("retain", "--user-days", "0"), "none longer than the next"),
        (("erase",), "standard input is empty"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_code_2(folder, words, expected):
    code, out, err = run(words[0], folder.deployment.root, *words[1:])
    assert (code, out) == (2, "")
    assert expected in err
    assert err.count("\n") == 1
