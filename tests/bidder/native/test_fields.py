"""The grammar covers the Structs of the default path: read, part of a key, bailing, or ignored.

The tests walk ``market.openrtb``'s Structs, so that a field which is added there, or which the
default path begins to obey, cannot be overlooked here.
"""

from __future__ import annotations

import copy
import json
from itertools import combinations

import msgspec
import pytest

from bidder.edge import Edge
from bidder.native.cells import CELL_COUNT, DEAL_CELLS, IMP_CELLS, LIST_CELLS, Cell
from bidder.native.fields import (
    FIELDS_READ,
    IGNORED,
    KEY_TABLES,
    REQUEST_COLUMNS,
    SLOT_COLUMNS,
    STRUCTS,
    Action,
    Group,
    Kind,
    entries_of,
)
from bidder.native.words import key_words
from bidder.privacy import PRIVACY_FIELDS
from market import openrtb
from market.exchange import ExchangeProfile
from market.openrtb_decode import decode_request
from market.opportunity import CURRENCY_COUNT_MAX, OPPORTUNITY_DTYPE
from tests.bidder.native.bodies import FULL

PLACES = {
    Kind.REQUEST: (), Kind.IMP: ("imp", 0), Kind.BANNER: ("imp", 0, "banner"),
    Kind.VIDEO: ("imp", 0, "video"), Kind.AUDIO: ("imp", 1, "audio"),
    Kind.NATIVE: ("imp", 1, "native"), Kind.PMP: ("imp", 0, "pmp"),
    Kind.DEAL: ("imp", 0, "pmp", "deals", 0), Kind.SITE: ("site",), Kind.APP: ("app",),
    Kind.DOOH: ("dooh",), Kind.PUBLISHER: ("site", "publisher"), Kind.CONTENT: ("site", "content"),
    Kind.DEVICE: ("device",), Kind.GEO: ("device", "geo"), Kind.USER: ("user",),
    Kind.USER_EXT: ("user", "ext"), Kind.DATA: ("user", "data", 0),
    Kind.SEGMENT: ("user", "data", 0, "segment", 0), Kind.EID: ("user", "eids", 0),
    Kind.EXT_EID: ("user", "ext", "eids", 0), Kind.REGS: ("regs",), Kind.REGS_EXT: ("regs", "ext"),
    Kind.SOURCE: ("source",), Kind.SOURCE_EXT: ("source", "ext"),
}  # fmt: skip
VALUES = (
    0, 1, 2, 7, -1, 99, 0.5, "", "x", "1", "en-GB", "IAB9", "news.example", "a,b", ["x"], [1], [[]],
    {}, {"id": "z"}, [{"id": "z", "name": "n"}], {"consent": "x", "gdpr": 1,
    "eids": [{"source": "q"}]},
    "00000000-0000-0000-0000-000000000000", {"country": "DEU", "city": "Ulm", "lat": 1, "lon": 2},
    [{"segment": [{"id": "q"}]}], "Mozilla/5.0 Firefox/3", {"w": 1, "h": 1, "mimes": ["image/gif"]},
)  # fmt: skip


def base_of(kind):
    """FULL with the inventory that the kind of object needs."""
    request = copy.deepcopy(FULL)
    if kind in (Kind.APP, Kind.DOOH):
        del request["site"]
        request[kind.name.lower()] = {"domain": "example.org", "keywords": "a"}
    request["source"]["ext"] = {}
    return request


def owner_in(request, kind):
    owner = request
    for step in PLACES[kind]:
        owner = owner[step]
    return owner


def tables_of(kind):
    table = KEY_TABLES[kind]
    return {tuple(int(word) for word in row[:3]): int(row[3]) for row in table if row[3]}


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
def test_every_field_of_a_struct_is_read_or_named_as_ignored(kind):
    fields = set(STRUCTS[kind].__struct_fields__)
    named = FIELDS_READ[kind].keys() | IGNORED[kind]
    assert fields - named == set(), "the default path has fields that the reader bails on"
    assert named - fields == set(), "the reader names fields that the default path does not have"
    assert not FIELDS_READ[kind].keys() & IGNORED[kind]


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
def test_the_key_table_holds_every_field_that_is_not_ignored(kind):
    fields = set(STRUCTS[kind].__struct_fields__) - IGNORED[kind]
    assert tables_of(kind).keys() == {key_words(name) for name in fields}
    numbers = [value & 0xFF for value in tables_of(kind).values()]
    assert len(set(numbers)) == len(numbers)
    assert all(0 < number < 64 for number in numbers)


def test_a_struct_that_gains_a_field_makes_the_reader_bail_on_it(monkeypatch):
    grown = msgspec.defstruct("Publisher", [*openrtb.Publisher.__struct_fields__, "rank"])
    monkeypatch.setitem(STRUCTS, Kind.PUBLISHER, grown)
    assert entries_of(Kind.PUBLISHER)["rank"].action is Action.UNREAD


@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, field) for kind in Kind for field in sorted(IGNORED[kind])],
    ids=lambda part: getattr(part, "name", part),
)
def test_an_ignored_field_changes_nothing_in_the_default_path(kind, field):
    edge, plain = Edge(b"salt"), ExchangeProfile(name="x", exchange_id=1)
    request = base_of(kind)
    owner_in(request, kind).pop(field, None)

    def offer_of():
        offer = edge.read(decode_request(json.dumps(request).encode()), plain, 1_700_000_000_000)
        block = offer.opportunities
        return (
            block.records.tobytes(), block.codes.tolist(), block.deals.tolist(), offer.refusals,
            offer.quantities_micros, offer.imp_indexes,
        )  # fmt: skip

    before = offer_of()
    for value in VALUES:
        owner_in(request, kind)[field] = value
        assert offer_of() == before, value


def test_the_privacy_key_holds_every_field_that_decides_a_permission():
    keyed = {
        ".".join(str(step) for step in (*PLACES[kind], field))
        for kind in Kind
        for field, entry in FIELDS_READ[kind].items()
        if entry.group is Group.PRIVACY
    }
    assert keyed == set(PRIVACY_FIELDS)


def test_every_column_of_an_opportunity_comes_from_the_slot_or_the_request():
    columns = set(OPPORTUNITY_DTYPE.names)
    assert columns == SLOT_COLUMNS | REQUEST_COLUMNS
    assert not SLOT_COLUMNS & REQUEST_COLUMNS


def cells_of(entry):
    """The cells that an entry's action may write."""
    width = {
        Action.NUMBER: 2, Action.SPAN: 2, Action.ID: 2, Action.NAME: 3,
        Action.CODES: LIST_CELLS, Action.ONE_MORE: LIST_CELLS, Action.KEYWORDS: LIST_CELLS,
        Action.PRIMARY_CODES: LIST_CELLS, Action.CURRENCIES: 1 + CURRENCY_COUNT_MAX,
    }.get(entry.action, 1)  # fmt: skip
    return range(entry.place, entry.place + width) if entry.place >= 0 else range(0)


def test_no_two_fields_write_one_cell_unless_they_mean_the_same():
    rows = {Kind.IMP: (Kind.IMP, Kind.PMP), Kind.DEAL: (Kind.DEAL,)}
    of_request = [kind for kind in Kind if kind not in (Kind.IMP, Kind.PMP, Kind.DEAL)]
    for kinds, count in (
        (rows[Kind.IMP], IMP_CELLS),
        (rows[Kind.DEAL], DEAL_CELLS),
        (of_request, CELL_COUNT),
    ):
        entries = {entry for kind in kinds for entry in FIELDS_READ[kind].values()}
        for one, other in combinations(entries, 2):
            if one.place != other.place or one.action is not other.action:
                assert not set(cells_of(one)) & set(cells_of(other)), (one, other)
        assert all(cell < count for entry in entries for cell in cells_of(entry))
    assert max(Cell) == Cell.DIMENSIONS
