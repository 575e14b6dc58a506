"""Makes the golden event bodies beside this file; run once per schema version, then kept forever.

    python -m tests.golden.events.make VERSION

A golden body is what a recorder of that version wrote, so this refuses to replace one: a layout
that changes without a new version number must make ``tests/market/test_events.py`` fail, not be
papered over. Every field holds a number of its own: ``value_of`` says which.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
RECORD_COUNT = 3

# The layouts as they were written down when the versions were made, in the words of ``struct``;
# little endian, aligned as the fields lie ("x" is padding).
FIELDS_1 = (
    ("id_hi", "Q"), ("id_lo", "Q"), ("bid_hi", "Q"), ("bid_lo", "Q"), ("opportunity_hi", "Q"),
    ("opportunity_lo", "Q"), ("ts_ms", "q"), ("recv_ms", "q"), ("bid_ms", "q"),
    ("deadline_ms", "q"), ("user_key", "Q"), ("deal_code", "Q"), ("price_cpm_micros", "q"),
    ("amount_micros", "q"), ("floor_cpm_micros", "q"), ("value_micros", "q"),
    ("advertiser_id", "I"), ("campaign_id", "I"), ("line_item_id", "I"), ("creative_id", "I"),
    ("snapshot_version", "I"), ("model_version", "I"), ("policy_version", "I"), ("exchange", "H"),
    ("bid_currency", "H"), ("account_currency", "H"), ("reason", "H"), ("worker", "H"),
    ("flags", "H"), ("kind", "B"), ("format", "B"), ("", "2x"), ("pctr", "f"), ("pcvr", "f"),
    ("propensity", "f"), ("weight", "f"), ("features", "12I"), ("", "4x"), ("budgets", "3Q"),
    ("caps", "3Q"),
)  # fmt: skip
FIELDS_2 = (
    *FIELDS_1, ("rate_micros", "q"), ("quantity_micros", "q"), ("order_code", "Q"),
    ("shading_factor", "f"), ("size", "I"),
)  # fmt: skip
FIELDS = {1: FIELDS_1, 2: FIELDS_2}


def path_of(version: int) -> Path:
    """Where the golden body of a version lies."""
    return FOLDER / f"v{version}.bin"


def value_of(record: int, name: str, code: str, place: int) -> int | float:
    """What a field holds in the golden records; ``place`` counts the elements of all fields."""
    if code == "f":
        return (place + 1) / 256 + record
    if code == "q":
        return -(10**15) - 1_000 * place - record if record == 1 else 10**15 + 1_000 * place
    largest = 256 ** struct.calcsize(f"<{code}") - 1
    if record == 2:
        return largest - place % 7
    return (place * 1_003 + 17 * record + len(name)) % largest


def records_of(version: int) -> list[dict[str, list[int | float]]]:
    """The golden records, field by field, as lists of one or more elements."""
    records: list[dict[str, list[int | float]]] = []
    for record in range(RECORD_COUNT):
        fields: dict[str, list[int | float]] = {}
        place = 0
        for name, form in FIELDS[version]:
            if not name:
                continue
            count = int(form[:-1] or 1)
            fields[name] = [value_of(record, name, form[-1], place + each) for each in range(count)]
            place += count
        records.append(fields)
    return records


def body_of(version: int) -> bytes:
    """The bytes of the golden records."""
    layout = struct.Struct("<" + "".join(form for _, form in FIELDS[version]))
    return b"".join(
        layout.pack(*(value for values in fields.values() for value in values))
        for fields in records_of(version)
    )


def main() -> int:
    """Writes one body; returns the exit status."""
    path = path_of(int(sys.argv[1]))
    if path.exists():
        sys.stderr.write(f"{path.name} is there and is never made again\n")
        return 1
    path.write_bytes(body_of(int(sys.argv[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
