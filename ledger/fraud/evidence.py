"""Evidence from the edge: which notices came from a data centre.

The store holds no address of anybody. Addresses stand in the access log of whatever terminates TLS
in front of the engine, and it is read there: a line gives an address and the path of a notice, the
path's signed token gives the bid, and what leaves the edge is the kind and the bid alone. Browsers
send impressions and clicks; wins and billing notices come from exchanges' own servers, which are in
data centres by rights, and are not looked at.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from ledger.notice import open_path
from market.errors import BadInput
from market.events import EventKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from market.addresses import AddressRanges

# Address first, then anything, then the request line: the common and the combined log format.
_LINE: Final = re.compile(r'^(\S+) .*?"GET (/n/[^ ?"]+)[^"]*"')
_FROM_BROWSERS: Final = frozenset({EventKind.IMPRESSION, EventKind.CLICK})


class Seen(NamedTuple):
    """A notice of a bid."""

    kind: int
    bid_hi: int
    bid_lo: int


class Evidence(NamedTuple):
    """What an access log tells.

    Attributes:
        from_data_centres: notices that came from one, each once.
        notices: impressions and clicks that were read.
        unread: lines that are no notice, or whose token is not ours.
    """

    from_data_centres: tuple[Seen, ...]
    notices: int
    unread: int


def read_access_log(
    lines: Iterable[str], data_centres: AddressRanges, notice_key: bytes
) -> Evidence:
    """Returns which notices in an access log came from data centres.

    Args:
        lines: Common or combined log format: the address first, the request line in quotes.
        data_centres: Address ranges.
        notice_key: Of the deployment, to open the tokens.
    """
    found: dict[Seen, None] = {}
    notices = unread = 0
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            unread += 1
            continue
        try:
            kind, token = open_path(notice_key, match[2].encode())
        except BadInput:  # Forbidden is one, too: a forged notice has no event
            unread += 1
            continue
        if kind not in _FROM_BROWSERS:
            continue
        notices += 1
        if match[1] in data_centres:
            found[Seen(int(kind), token.bid_hi, token.bid_lo)] = None
    return Evidence(tuple(found), notices, unread)
