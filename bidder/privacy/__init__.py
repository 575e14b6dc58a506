"""What may be known of a user, decided in one place and obeyed by features and events alike.

`signals` reads every privacy signal of a request; `permission` says, use by use (`use`), what they
permit and which field forbids the rest. The strings are decoded next door: `consent_string` (IAB
TCF v2), `gpp` (Global Privacy Platform) with its US sections in `us_section`, `us_privacy` (CCPA),
all on `bits`; `consent` holds the table of TCF purposes that each use needs. `identity` says who
the user is once that may be known.

Where a use is forbidden the edge (`bidder.edge`) leaves its fields out, so that neither a feature
nor an event can hold them.

What this room does not do: ask anybody (the vendor list, a consent platform), or judge how old a
string is. Which signal forbids what is told for people in ``docs/privacy.md``.
"""

from bidder.privacy.identity import is_zeroed, user_id_of
from bidder.privacy.permission import (
    ALLOWED,
    FORBIDDING_FIELDS,
    Permission,
    permission_bits,
    permission_from_bits,
    permission_of,
)
from bidder.privacy.signals import PRIVACY_FIELDS, ZEROED_FIELDS
from bidder.privacy.use import Use

__all__ = [
    "ALLOWED",
    "FORBIDDING_FIELDS",
    "PRIVACY_FIELDS",
    "ZEROED_FIELDS",
    "Permission",
    "Use",
    "is_zeroed",
    "permission_bits",
    "permission_from_bits",
    "permission_of",
    "user_id_of",
]
