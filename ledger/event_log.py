"""The event log: the segment log that the recorder writes and the analytics store follows.

Its records are of ``market.events.EVENT_DTYPE``; its control frames are the budget owner's own.
"""

from __future__ import annotations

from typing import Final

from ledger.frame import Schema
from market.events import EVENT_DTYPE, SCHEMA_VERSION

EVENT_LOG: Final = Schema(name="events", version=SCHEMA_VERSION, record_bytes=EVENT_DTYPE.itemsize)
"""The one schema under which both sides open ``deployment.segment_folder``."""
