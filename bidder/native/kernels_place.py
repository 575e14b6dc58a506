"""Where and to whom: dimensions and position of the shared record (``context.dimensions_of``)."""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

# An error leaves by a return at once, bytes are told apart by plain comparisons, which become jump
# tables: the rules that count returns and branches or want sets are for other code than this.
# ruff: noqa: PLR1714

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bidder.native.cells import ABSENT, Cell
from bidder.native.kernels_name import code_at
from bidder.native.kernels_number import degrees_micros, year_of
from bidder.native.kernels_value import write_integer
from bidder.native.vocabulary import (
    ACCURACY_M_MAX,
    DEMOGRAPHICS,
    FLAGS,
    GEO_FROM_IP,
    HOURS,
    HOURS_SHIFT,
    INVENTORY_TYPES,
    PRECISE_GEO,
)
from bidder.native.wire import Bail
from market.kernel import bare_kernel as kernel
from market.opportunity import DIMENSION_COUNT, Dimension, PositionKind

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Cells = npt.NDArray[np.int64]
    Codes = npt.NDArray[np.uint64]

_NONE = np.uint64(0)
_HOURS_OF_WEEK = 168
_OFFSET_MINUTES_MAX = 1_440


@kernel
def _fill_channel(cells: Cells, found: Codes) -> None:
    domain = np.uint64(cells[Cell.DOMAIN])
    if cells[Cell.HAS_SITE]:
        found[Dimension.INVENTORY_TYPE] = INVENTORY_TYPES[0]
    elif cells[Cell.HAS_APP]:
        found[Dimension.INVENTORY_TYPE] = INVENTORY_TYPES[1]
        if cells[Cell.BUNDLE] != 0:
            domain = np.uint64(cells[Cell.BUNDLE])
    elif cells[Cell.HAS_DOOH]:
        found[Dimension.INVENTORY_TYPE] = INVENTORY_TYPES[2]
    found[Dimension.INVENTORY] = domain
    found[Dimension.PUBLISHER] = np.uint64(cells[Cell.PUBLISHER])
    if found[Dimension.CONTENT_LANGUAGE] == _NONE:
        found[Dimension.CONTENT_LANGUAGE] = np.uint64(cells[Cell.CONTENT_LANGUAGE_TAG])
    if cells[Cell.LIVESTREAM] != ABSENT:
        found[Dimension.LIVESTREAM] = FLAGS[1 if cells[Cell.LIVESTREAM] == 1 else 0]


@kernel
def _fill_user(cells: Cells, text: Bytes, found: Codes, arrival_ms: int, permission: int) -> None:
    if not permission & DEMOGRAPHICS:
        found[Dimension.GENDER] = _NONE
    elif cells[Cell.BIRTH_YEAR] != ABSENT:
        band = (year_of(arrival_ms) - cells[Cell.BIRTH_YEAR]) // 10 * 10
        found[Dimension.AGE_BAND] = code_at(text, 0, write_integer(band, text))


@kernel
def fill_dimensions(
    cells: Cells, text: Bytes, agents: npt.NDArray[np.uint64], agent: int, exchange: np.uint64,
    arrival_ms: int, permission: int, shared: np.void,
) -> None:  # fmt: skip
    """Fills the shared record's dimensions, those of an imp left 0.

    Args:
        cells: filled from the body.
        text: scratch.
        agents: of the memo tables.
        agent: row of ``agents``, -1 where the request has no device.
        exchange: code of the exchange's name.
        arrival_ms: epoch milliseconds.
        permission: bits of ``permission_bits``.
        shared: record of OPPORTUNITY_DTYPE.
    """
    found = shared["dimensions"]
    for d in range(DIMENSION_COUNT):
        found[d] = np.uint64(cells[Cell.DIMENSIONS + d])
    found[Dimension.EXCHANGE] = exchange
    if not permission & PRECISE_GEO:
        found[Dimension.CITY] = _NONE
        found[Dimension.ZIP] = _NONE
    if found[Dimension.LANGUAGE] == _NONE:
        found[Dimension.LANGUAGE] = np.uint64(cells[Cell.LANGUAGE_TAG])
    shared["os_version"] = _NONE
    if agent >= 0:
        found[Dimension.OS] = agents[agent, 0]
        shared["os_version"] = agents[agent, 1]
        found[Dimension.BROWSER] = agents[agent, 2]
        if found[Dimension.MODEL] == _NONE:
            found[Dimension.MODEL] = agents[agent, 3]
    _fill_channel(cells, found)
    offset = cells[Cell.UTC_OFFSET]
    minutes = 0 if offset == ABSENT else min(max(offset, -_OFFSET_MINUTES_MAX), _OFFSET_MINUTES_MAX)
    hour = (arrival_ms // 60_000 + minutes) // 60
    found[Dimension.HOUR_OF_WEEK] = HOURS[(hour + HOURS_SHIFT) % _HOURS_OF_WEEK]
    _fill_user(cells, text, found, arrival_ms, permission)


@kernel
def fill_position(cells: Cells, permission: int, shared: np.void) -> int:
    """Fills the shared record's position (``context._position``); returns 0 or -cause."""
    shared["latitude_e6"], shared["longitude_e6"] = 0, 0
    shared["accuracy_m"], shared["position_kind"] = 0, PositionKind.NONE
    latitude, longitude = cells[Cell.LATITUDE], cells[Cell.LONGITUDE]
    if not permission & PRECISE_GEO or latitude == ABSENT or longitude == ABSENT:
        return 0
    if latitude == 0 and longitude == 0:
        return 0
    is_sure, is_angle, north = degrees_micros(latitude, cells[Cell.LATITUDE + 1], 90.0)
    is_sure_too, is_angle_too, east = degrees_micros(longitude, cells[Cell.LONGITUDE + 1], 180.0)
    if not (is_sure and is_sure_too):
        return -Bail.NUMBER
    if not (is_angle and is_angle_too):
        return 0
    kind = cells[Cell.GEO_TYPE]
    is_looked_up = kind == GEO_FROM_IP or (kind == ABSENT and cells[Cell.IP_SERVICE] != ABSENT)
    shared["latitude_e6"], shared["longitude_e6"] = north, east
    shared["accuracy_m"] = min(max(cells[Cell.ACCURACY], 0), ACCURACY_M_MAX)
    shared["position_kind"] = PositionKind.IP if is_looked_up else PositionKind.DEVICE
    return 0
