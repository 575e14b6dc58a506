"""The GPP string of the IAB Global Privacy Platform: a header and one section a jurisdiction.

The header is a table of contents; what the sections say is read by those who know them
(`bidder.privacy.us_section`, `consent_string`, `us_privacy`).

Source: IAB Tech Lab, "Global Privacy Platform String" 1.0, sections "Header Encoding" and "Section
Encoding" (Range (Fibonacci)); section ids: "Section Information".
"""

from __future__ import annotations

from typing import Final

from bidder.privacy.bits import Bits
from market.errors import BadInput

_HEADER_TYPE: Final = 3
_VERSION: Final = 1


def decode_gpp(text: str) -> dict[int, str]:
    """Returns the sections of a GPP string, still encoded, by section id.

    Raises:
        BadInput: the header is no GPP header of version 1, or names other sections than follow.
    """
    header, *sections = text.split("~")
    bits = Bits(header)
    kind, version = bits.take(6), bits.take(6)
    if (kind, version) != (_HEADER_TYPE, _VERSION):
        raise BadInput(
            f"GPP string: header type {kind}, version {version}; "
            f"they must be {_HEADER_TYPE} and {_VERSION}"
        )
    ids = _section_ids(bits, len(sections))
    bits.end()
    return dict(zip(ids, sections, strict=True))


def _section_ids(bits: Bits, count: int) -> list[int]:
    """Returns the ids of a Range (Fibonacci): offsets to the last id seen, rising.

    Raises:
        BadInput: there are not exactly ``count``; a longer group is not unrolled.
    """
    ids: list[int] = []
    last = 0
    for _ in range(bits.take(12)):
        is_group = bits.flag()
        first = last + bits.fibonacci()
        last = first + bits.fibonacci() if is_group else first
        if len(ids) + last - first + 1 > count:
            break
        ids.extend(range(first, last + 1))
    else:
        if len(ids) == count:
            return ids
    raise BadInput(f"GPP string: its header does not name the {count} sections that follow")
