"""``docs/notices.md`` is true: every case of its table is run against a real recorder."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from market.events import EventKind
from market.exchange import DEFAULT_EXCHANGES, ExchangeProfile
from market.notices import MACROS, QUERY_MACROS
from market.price_encryption import PriceCipher, PriceEncoding, PriceKeys, new_iv
from tests.ledger.recorders import Place, until

PAGE = Path(__file__).parents[1] / "docs" / "notices.md"
KEYS = PriceKeys("0a" * 32, "0b" * 32)
GOOGLE = ExchangeProfile(name="google", exchange_id=9, price_encoding=PriceEncoding.GOOGLE)
WIN, BILLING, LOSS = EventKind.WIN, EventKind.BILLING, EventKind.LOSS
CLICK, CONVERSION = EventKind.CLICK, EventKind.CONVERSION
RESERVED, PRICE = 100, 60
QUANTITY_MICROS = 1_000_000
DAY_MS = 86_400_000


def rows_of(title):
    """The rows of the table under a heading, as lists of cells."""
    section = PAGE.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def now_ms():
    return time.time_ns() // 1_000_000


class Bid:
    """One bid at the recorder, and what may be said of it."""

    def __init__(self, place, worker, number, **changes):
        now = now_ms()
        self.place, self.number = place, number
        self.said = {"bid_ms": now, "deadline_ms": now + 3_600_000, "reserved": RESERVED, **changes}
        self.worker = worker

    def made(self):
        """Makes the bid and waits until the recorder knows it."""
        open_count = self.open_count()
        until(lambda: self.worker.take_credits() is not None and self.worker.available.get(1))
        assert self.worker.bid(self.number, **self.said)
        is_open = self.said["deadline_ms"] > now_ms()
        until(lambda: not is_open or self.open_count() > open_count)
        return self

    def open_count(self):
        return self.place.ledger().budgets[0].open_count

    def path(self, kind=BILLING, query=f"p={PRICE / 1000}"):
        return self.place.path_of(kind, self.number, f"?{query}", **self.said)

    def say(self, kind=BILLING, query=f"p={PRICE / 1000}"):
        return self.place.get(self.path(kind, query))[0]

    def price(self, text):
        return self.say(query=f"p={text}")


def encrypted(at_ms, keys=KEYS):
    return PriceCipher(keys, "google").encrypt(PRICE, new_iv(at_ms, 1))


def after(*said):
    """Says these first (they are no part of the case); the case follows."""

    def prepare(bid):
        bid.made()
        for kind, query in said:
            assert bid.say(kind, query) == 200
        return bid

    return prepare


BILL = (BILLING, f"p={PRICE / 1000}")
HIGH = (BILLING, f"p={(RESERVED + 1) / 1000}")
MADE = after()


def altered(path, at):
    return path[:at] + ("A" if path[at] != "A" else "B") + path[at + 1 :]


# By the name of the case: changes to the bid, what happens before, and the notice itself.
CASES = {
    "billing notice, price at or below the bid": ({}, MADE, lambda b: b.say()),
    "the same notice again (replayed)": ({}, after(BILL), lambda b: b.say()),
    "price above the reservation": ({}, MADE, lambda b: b.say(*HIGH)),
    "a second price above the reservation": ({}, after(HIGH), lambda b: b.say(*HIGH)),
    "a true price after a disputed one": ({}, after(HIGH), lambda b: b.say()),
    "another currency than the bid's": ({}, MADE, lambda b: b.price("0.06&c=EUR")),
    "another ad than the bid's": ({}, MADE, lambda b: b.price("0.06&a=71")),
    "more impressions than were bid on": ({}, MADE, lambda b: b.price("0.001&q=2")),
    "fewer impressions than were bid on": ({}, MADE, lambda b: b.price("0.12&q=0.5")),
    "loss notice": ({}, MADE, lambda b: b.say(LOSS, "l=102&p=&m=0.2")),
    "billing after the loss notice (reordered)": (
        {}, after((LOSS, "l=102")), lambda b: b.say(),
    ),
    "loss after the billing notice (reordered)": ({}, after(BILL), lambda b: b.say(LOSS, "l=102")),
    "win after the billing notice (reordered)": ({}, after(BILL), lambda b: b.say(WIN, "p=0.06")),
    "billing after the reservation's deadline": (
        {"deadline_ms": now_ms()}, MADE, lambda b: b.say(),
    ),
    "billing more than seven days after the deadline": (
        {"bid_ms": now_ms() - 9 * DAY_MS, "deadline_ms": now_ms() - 7 * DAY_MS - 9}, lambda b: b,
        lambda b: b.say(),
    ),
    "unknown bid, signed token": ({}, lambda b: b, lambda b: b.say()),
    "win notice where billing charges": ({}, MADE, lambda b: b.say(WIN, "p=0.06&m=0.05")),
    "test render (any macro is AUDIT)": ({}, MADE, lambda b: b.price("0.06&t=AUDIT")),
    "bid of a request with test = 1": ({"is_test": True}, MADE, lambda b: b.say()),
    "altered signature": ({}, MADE, lambda b: b.place.get(altered(b.path(), 125))[0]),
    "altered token": ({}, MADE, lambda b: b.place.get(altered(b.path(), 20))[0]),
    "token of another kind of notice": (
        {}, MADE, lambda b: b.place.get(b.path(WIN).replace("/win/", "/billing/"))[0],
    ),
    "no such kind of notice": (
        {}, MADE, lambda b: b.place.get(b.path().replace("/billing/", "/view/"))[0],
    ),
    "no price on the notice that charges": ({}, MADE, lambda b: b.price("")),
    "macro left unfilled": ({}, MADE, lambda b: b.say(query=MACROS[BILLING][1:])),
    "price is no number": ({}, MADE, lambda b: b.price("free")),
    "price is NaN": ({}, MADE, lambda b: b.price("nan")),
    "price is negative": ({}, MADE, lambda b: b.price("-0.06")),
    "price is beyond belief": ({}, MADE, lambda b: b.price("1e9")),
    "query is no UTF-8": ({}, MADE, lambda b: b.price("%FF")),
    "loss reason is no code": ({}, MADE, lambda b: b.say(LOSS, "l=outbid")),
    "unreadable value that is for confirmation": ({}, MADE, lambda b: b.price("0.06&t=noon")),
    "encrypted price, as agreed": ({"exchange": 9}, MADE, lambda b: b.price(encrypted(now_ms()))),
    "encrypted price where a clear one was agreed": (
        {}, MADE, lambda b: b.price(encrypted(now_ms())),
    ),
    "clear price where an encrypted one was agreed": ({"exchange": 9}, MADE, lambda b: b.say()),
    "encrypted price, altered or of other keys": (
        {"exchange": 9}, MADE,
        lambda b: b.price(encrypted(now_ms(), PriceKeys("0c" * 32, "0d" * 32))),
    ),
    "encrypted price, cut": ({"exchange": 9}, MADE, lambda b: b.price(encrypted(now_ms())[:-4])),
    "encrypted price from before the bid": (
        {"exchange": 9}, MADE, lambda b: b.price(encrypted(now_ms() - DAY_MS)),
    ),
    "click": ({}, MADE, lambda b: b.say(CLICK, "")),
    "click of a creative without a landing page": (
        {"creative_id": 71}, MADE, lambda b: b.say(CLICK, ""),
    ),
    "conversion": ({}, MADE, lambda b: b.say(CONVERSION, "o=A&v=9.5")),
    "the same order again": (
        {}, after((CONVERSION, "o=A&v=9.5")), lambda b: b.say(CONVERSION, "o=A&v=9.5"),
    ),
    "conversion whose value is no number": ({}, MADE, lambda b: b.say(CONVERSION, "o=A&v=much")),
    "conversion with an order id that is too long": (
        {}, MADE, lambda b: b.say(CONVERSION, f"o={'x' * 201}"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    place = Place(
        tmp_path_factory.mktemp("notices") / "run",
        exchanges=(*DEFAULT_EXCHANGES, GOOGLE),
        price_keys={"google": KEYS},
    ).start()
    worker = place.worker()
    until(lambda: worker.take_credits() is not None and worker.available)
    yield place, worker
    code, said, _ = place.stop()
    assert (code, said.count("\n")) == (0, 1)
    assert KEYS.encryption_hex not in said


def counters(view):
    """All counters of all exchanges by the names that the page gives them."""
    found = Counter()
    for exchange in view.exchanges:
        fields = msgspec.structs.asdict(exchange)
        prefix = "/" if fields.pop("name") == "" else ""
        faults = fields.pop("faults")
        found.update({prefix + name: count for name, count in fields.items()})
        found.update({f"{prefix}faults.{name}": count for name, count in faults.items()})
    return found


def money(before, after_):
    """What the money of the one budget did, in the page's words."""
    moved = [
        getattr(after_.budgets[0], name) - getattr(before.budgets[0], name)
        for name in ("spent_on_time_micros", "spent_late_micros", "open_count")
    ]
    words = {
        (0, 0, 0): "nothing", (PRICE, 0, -1): "charged", (0, PRICE, 0): "late",
        (0, PRICE, -1): "late", (0, 0, -1): "released",
    }  # fmt: skip
    return words.get(tuple(moved), f"moved {moved}")


@pytest.mark.parametrize("row", rows_of("Cases"), ids=lambda row: row[0])
def test_a_case_is_answered_paid_and_counted_as_the_page_says(recorder, row):
    place, worker = recorder
    name, status, paid, counted = row
    changes, prepare, tell = CASES[name]
    bid = prepare(Bid(place, worker, 1_000 + 10 * list(CASES).index(name), **changes))
    before = place.ledger()
    assert tell(bid) == int(status)
    now = place.ledger()
    assert money(before, now) == paid
    found = counters(now) - counters(before)
    assert found == Counter(counted.split(", ") if counted else ())


def test_every_case_is_on_the_page_once():
    assert Counter(row[0] for row in rows_of("Cases")) == Counter(list(CASES))


def test_the_page_names_every_macro_and_where_it_is_sent():
    rows = rows_of("Macros")
    assert {row[0].strip("`"): row[1].strip("`") for row in rows} == QUERY_MACROS
    for parameter, macro, sent, _ in rows:
        name, text = parameter.strip("`"), macro.strip("`")
        kinds = [
            kind.name.lower()
            for kind, query in MACROS.items()
            if re.search(rf"[?&]{name}=\$\{{{text}\}}", query)
        ]
        assert sent == ", ".join(kinds), text


def test_the_page_names_every_encoding():
    names = [row[0].strip("`") for row in rows_of("Encoded and encrypted prices")]
    assert names == [encoding.value for encoding in PriceEncoding]
