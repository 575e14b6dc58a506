"""The US Privacy string of the IAB CCPA Compliance Framework, version 1.0.

Four characters: version, notice given, opted out of sale, covered by the Limited Service Provider
Agreement. Source: IAB Tech Lab, "US Privacy String", final version 1 (March 2020).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from market.errors import BadInput

_FORMAT: Final = re.compile(r"1[NY-]{3}", re.IGNORECASE)
_SHOWN: Final = 24
_DOES_NOT_APPLY: Final = "1---"


class UsPrivacy(NamedTuple):
    """One string: each of ``notice``, ``opt_out`` and ``lspa`` is "Y", "N" or "-"."""

    notice: str
    opt_out: str
    lspa: str


def decode_us_privacy(text: str) -> UsPrivacy:
    """Returns what a US Privacy string says.

    Raises:
        BadInput: another version, another length or another character; or "-" for the opt-out
            although the law applies.
    """
    if _FORMAT.fullmatch(text) is None:
        raise BadInput(f"us_privacy '{text[:_SHOWN]}': it must be 1 and three of Y, N and -")
    found = UsPrivacy(*text[1:].upper())
    if found.opt_out == "-" and text != _DOES_NOT_APPLY:
        raise BadInput(f"us_privacy '{text}': - for the opt-out is only for {_DOES_NOT_APPLY}")
    return found


def us_privacy_permits(found: UsPrivacy) -> bool:
    """Returns whether the user's data may be used: no law applies, or notice and no opt-out.

    A notice that was not given, or of which nothing is known, could not be answered by the user.
    """
    return found == ("-", "-", "-") or (found.notice == "Y" and found.opt_out == "N")
