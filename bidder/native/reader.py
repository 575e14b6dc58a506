"""The native path's reader, from Python: bodies in, a filled wire or the reason for none out.

The worker's loop calls the kernel (`kernels_request.read_request`) with what a `Reader` holds; the
methods here are for what surrounds it: profiles as records, the default path's verdicts, tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bidder.edge import Refusal
from bidder.native.kernels_request import read_request
from bidder.native.memo import Memory
from bidder.native.wire import BODY_PAD, Bail, Count, Wire, wire
from bidder.supply_chain import NO_SUPPLY, Supply
from market.chance import code_of, salt_words
from market.decision import NoBidReason
from market.errors import BadInput
from market.kernels_hash import sip_hash
from market.money import CURRENCY_NUMBERS

if TYPE_CHECKING:
    import numpy.typing as npt

    from market.exchange import ExchangeProfile
    from market.openrtb import BidRequest

NAME_BYTES_MAX: Final = 256
AUCTION_TYPES_MAX: Final = 64

PROFILE_DTYPE = np.dtype(
    [
        # code of the name, and a random number of its own that keeps exchanges' memos apart
        ("code", np.uint64),
        ("tweak", np.uint64),
        ("name", np.uint8, (NAME_BYTES_MAX,)),
        ("name_bytes", np.int64),
        ("exchange_id", np.uint16),
        ("currency", np.uint16),
        # exchange-specific auction types, 500 or more, and what they mean
        ("auction_codes", np.int64, (AUCTION_TYPES_MAX,)),
        ("auction_kinds", np.int64, (AUCTION_TYPES_MAX,)),
        ("auction_count", np.int64),
        # 1: sellers are judged; 1: addresses and user agents, or the pages of sites, are too
        ("checks_supply", np.uint8),
        ("checks_addresses", np.uint8),
    ],
    align=True,
)


def profile_record(profile: ExchangeProfile, memo_key: tuple[int, int]) -> npt.NDArray[np.void]:
    """Returns [1] of PROFILE_DTYPE: what the reader must know of an exchange.

    Raises:
        BadInput: the name or the list of auction types is too long for the record.
    """
    name = profile.name.encode()
    if len(name) > NAME_BYTES_MAX:
        raise BadInput(
            f"exchange '{profile.name}': the name has {len(name)} bytes; at most {NAME_BYTES_MAX}"
        )
    own = {code: kind for code, kind in profile.auction_types.items() if code == str(int(code))}
    if len(own) > AUCTION_TYPES_MAX:
        raise BadInput(
            f"exchange '{profile.name}': auction_types has {len(own)}; at most {AUCTION_TYPES_MAX}"
        )
    record = np.zeros(1, PROFILE_DTYPE)
    text = np.frombuffer(name, np.uint8)
    record["code"] = code_of(profile.name)
    record["tweak"] = sip_hash(np.uint64(memo_key[0]), np.uint64(memo_key[1]), text, 0, len(name))
    record["name"][0, : len(name)] = text
    record["name_bytes"] = len(name)
    record["exchange_id"] = profile.exchange_id
    record["currency"] = CURRENCY_NUMBERS[profile.currency]
    record["auction_count"] = len(own)
    for i, (code, kind) in enumerate(own.items()):
        record["auction_codes"][0, i], record["auction_kinds"][0, i] = int(code), kind
    record["checks_supply"] = profile.checks_supply
    record["checks_addresses"] = profile.refuses_non_human
    return record


class Reader:
    """Reads bodies for one worker.

    Attributes:
        wire: what the last body held.
        memory: what the default path has worked out.
        salts: key of user pseudonyms, two words.
        memo_key: random key of the memo tables, two words.
    """

    def __init__(
        self, user_salt: bytes, memo_key: tuple[int, int], tcf_vendor_id: int | None = None,
        supply: Supply = NO_SUPPLY,
    ) -> None:  # fmt: skip
        """Takes what the worker's edge was made with, and 128 random bits of the process's own."""
        self.wire: Wire = wire()
        self.memory = Memory(user_salt, tcf_vendor_id, supply)
        k0, k1 = salt_words(user_salt)
        self.salts = np.uint64(k0), np.uint64(k1)
        self.memo_key = np.uint64(memo_key[0]), np.uint64(memo_key[1])
        self._profiles: dict[str, np.void] = {}
        self._body = np.zeros(1 << 16, np.uint8)

    def profile(self, profile: ExchangeProfile) -> np.void:
        """Returns the record of an exchange, made at its first request."""
        record = self._profiles.get(profile.name)
        if record is None:
            key = int(self.memo_key[0]), int(self.memo_key[1])
            record = self._profiles[profile.name] = profile_record(profile, key)[0]
        return record

    def read(self, body: bytes, profile: ExchangeProfile, arrival_ms: int) -> Bail:
        """Reads a body into `wire`; says why not, if it did not."""
        if len(body) + BODY_PAD > self._body.size:
            self._body = np.zeros(2 * (len(body) + BODY_PAD), np.uint8)
        self._body[: len(body)] = np.frombuffer(body, np.uint8)
        cause = read_request(
            self._body, 0, len(body), self.profile(profile), arrival_ms, *self.salts,
            *self.memo_key, self.memory.tables, self.wire,
        )  # fmt: skip
        return Bail(int(cause))

    def remember(self, request: BidRequest, profile: ExchangeProfile) -> int:
        """Keeps what the last body was missed for; ``request`` is that body, decoded.

        Returns:
            How many verdicts were added.
        """
        return self.memory.remember(request, profile, self.wire)

    def refusals(self) -> tuple[Refusal, ...]:
        """Returns the refusals of the last body as the edge words them."""
        rows = self.wire.refusals[: int(self.wire.counts[Count.REFUSALS])]
        return tuple(
            Refusal(int(imp), NoBidReason(int(reason)), self.memory.fields[int(field)])
            for imp, reason, field in rows
        )
