"""Remembers what the default path works out, for the kernels: one verdict per distinct text.

A key is the keyed hash of the raw tokens that a verdict depends on (`bidder.native.fields.Group`);
the key of the hash is random per process, so nobody outside can make two texts meet. A verdict is
made by the default path's own functions from the request as that path decoded it. Tables are
bounded: a full one is emptied, which costs its texts one more turn on the default path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from bidder.codes import CodeBook
from bidder.context import dimensions_of
from bidder.edge import Edge
from bidder.native.cells import FIELD_NAMES, GROUP_COUNT
from bidder.native.fields import IGNORED, Group, Kind
from bidder.native.kernels_memo import Memo, place_of
from bidder.pods import is_in_pod
from bidder.privacy import Permission, permission_bits, permission_of
from bidder.supply_chain import NO_SUPPLY, Supply
from market.exchange import ChainRule, ExchangeProfile, SellersRule
from market.openrtb import BidRequest, Device, Imp
from market.opportunity import OPPORTUNITY_DTYPE, Dimension

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bidder.native.wire import Wire

TABLE_PLACES: Final = 1 << 15
"""Places of a table, half of which are used: user agents are many, and 16,384 are most of them."""
SLOTS_MAX: Final = 4_096
HELD_MAX: Final = 65_536
_BY_DEFAULT_PATH: Final = -1
_EVERY_DEAL: Final = -1
_REASON_SHIFT: Final = 32
_ALLOWED: Final = Permission()
_FIRST_IMP: Final = {"id": "1", "tagid": None, "bidfloor": None, "bidfloorcur": None, "pmp": None}


def memo_tables() -> Memo:
    """Returns empty tables, by which every deal counts."""
    tables = Memo(
        keys=np.zeros((GROUP_COUNT, TABLE_PLACES), np.uint64),
        values=np.zeros((GROUP_COUNT, TABLE_PLACES), np.int64),
        slots=np.zeros(SLOTS_MAX, OPPORTUNITY_DTYPE),
        faults=np.zeros(SLOTS_MAX, np.int64),
        agents=np.zeros((TABLE_PLACES // 2, 4), np.uint64),
        held=np.zeros(HELD_MAX, np.uint64),
        limits=np.zeros(1, np.int64),
    )
    tables.limits[0] = _EVERY_DEAL
    return tables


class Memory:
    """Fills the memo tables of one worker.

    Attributes:
        tables: for the kernels.
        fields: names of the fields at fault by their number in a refusal.
    """

    def __init__(
        self, user_salt: bytes, tcf_vendor_id: int | None = None, supply: Supply = NO_SUPPLY
    ) -> None:
        """Takes what the worker's edge was made with."""
        self.tables = memo_tables()
        self.fields: list[str] = [*FIELD_NAMES]
        self._tcf_vendor_id = tcf_vendor_id
        self._supply = supply
        self._edge = Edge(user_salt)
        self._codes = CodeBook()
        self._counts = [0] * GROUP_COUNT
        self._rows = [0] * GROUP_COUNT

    def hold(self, deals: Iterable[int] | None) -> None:
        """Lets only these deals count (``Edge.deals_held``); None: every deal.

        More than HELD_MAX are not held at once: then no deal is left out here, which the decision
        does anyway.
        """
        codes = None if deals is None else np.array(sorted(set(deals)), np.uint64)
        if codes is None or codes.size > HELD_MAX:
            self.tables.limits[0] = _EVERY_DEAL
            return
        self.tables.held[: codes.size] = codes
        self.tables.limits[0] = codes.size

    def forget(self) -> None:
        """Empties all tables: a rule has changed (the seller files, our vendor id)."""
        for group in Group:
            self._empty(group)

    def remember(self, request: BidRequest, profile: ExchangeProfile, wire: Wire) -> int:
        """Works out what the reader missed in ``request``, and keeps it.

        Args:
            request: as decoded from the body that the reader has just bailed on.
            profile: of the exchange it came from.
            wire: as the reader left it.

        Returns:
            How many verdicts were added; 0 when the cause was another.
        """
        missed = wire.missed[: int(wire.missed_count[0])].copy()
        imps = self._imps_by_key(request, wire, missed)
        for group, key in missed:
            self._keep(Group(int(group)), key, request, profile, imps)
        return len(missed)

    def _imps_by_key(self, request: BidRequest, wire: Wire, missed: np.ndarray) -> dict[int, Imp]:
        """Returns an imp for each missed slot: the reader notes its place beside the key."""
        places = wire.missed_imps[: missed.shape[0]]
        return {
            int(key): request.imp[int(place)]
            for (group, key), place in zip(missed, places, strict=True)
            if group == Group.SLOT
        }

    def _keep(
        self, group: Group, key: np.uint64, request: BidRequest, profile: ExchangeProfile,
        imps: dict[int, Imp],
    ) -> None:  # fmt: skip
        keys = self.tables.keys
        if keys[group, place_of(keys, int(group), key)] == key:
            return  # two imps of one request may be alike
        is_full = self._counts[group] >= TABLE_PLACES // 2
        if is_full or (group is Group.SLOT and self._rows[group] >= SLOTS_MAX):
            self._empty(group)
        if group is Group.PRIVACY:
            value = permission_bits(permission_of(request, self._tcf_vendor_id))
        elif group is Group.SUPPLY:
            objection = self._supply.objection(request, profile)
            value = 0 if objection is None else self._fault(*objection)
        elif group is Group.AGENT:
            value = self._agent_row(request)
        else:
            value = self._slot_row(imps[int(key)], profile)
        place = place_of(keys, int(group), key)
        self._counts[group] += 1
        keys[group, place] = key
        self.tables.values[group, place] = value

    def _empty(self, group: Group) -> None:
        self.tables.keys[group] = 0
        self._counts[group] = 0
        self._rows[group] = 0

    def _next_row(self, group: Group) -> int:
        row = self._rows[group]
        self._rows[group] = row + 1
        return row

    def _fault(self, reason: int, field: str) -> int:
        """Returns a refusal as one number; field names are few, each gets the next number."""
        if field not in self.fields:
            self.fields.append(field)
        return int(reason) << _REASON_SHIFT | self.fields.index(field)

    def _agent_row(self, request: BidRequest) -> int:
        device = request.device
        assert device is not None, "the reader asks only where there is one"
        told = Device(os=device.os, osv=device.osv, sua=device.sua, ua=device.ua)
        alone = BidRequest(id="1", imp=request.imp, device=told)
        found, place = dimensions_of(alone, "", 0, _ALLOWED, self._codes)
        row = self._next_row(Group.AGENT)
        self.tables.agents[row] = (
            found[Dimension.OS], place.os_version, found[Dimension.BROWSER], found[Dimension.MODEL],
        )  # fmt: skip
        return row

    def _slot_row(self, imp: Imp, profile: ExchangeProfile) -> int:
        """Returns the row of a slot: what the default edge makes of the imp without all the rest.

        What becomes of it other than one record or one refusal is left to the default path.
        """
        if is_in_pod(imp):
            # What is bid in a pod narrows the rest of it, which the default path watches.
            return _BY_DEFAULT_PATH
        bare = dict.fromkeys(name for name in IGNORED[Kind.IMP] if name != "ext")
        alone = msgspec.structs.replace(imp, **_FIRST_IMP, secure=None, **bare)
        request = BidRequest(id="1", imp=[alone])
        offer = self._edge.read(request, _unchecked(profile), 0)
        records = offer.opportunities.records
        if len(offer.imps) + len(offer.refusals) != 1:
            return _BY_DEFAULT_PATH
        if offer.imps and (records[0]["duration_floor_count"].any() or offer.deals[0]):
            return _BY_DEFAULT_PATH
        row = self._next_row(Group.SLOT)
        if offer.imps:
            self.tables.slots[row] = records[0]
            self.tables.faults[row] = 0
        else:
            refusal = offer.refusals[0]
            self.tables.faults[row] = self._fault(refusal.reason, refusal.field)
        return row


def _unchecked(profile: ExchangeProfile) -> ExchangeProfile:
    """Returns the profile without what it asks of sellers: a slot stands for itself."""
    return msgspec.structs.replace(
        profile, chain_rule=ChainRule.OPTIONAL, sellers_rule=SellersRule.IGNORED, chain_blocked=(),
        chain_nodes_max=0, refuses_non_human=False,
    )  # fmt: skip
