"""The types that OpenRTB fields are declared with: wider than the specification, as exchanges are.

Every bound and alias here decides what the decoder takes as it comes; what it refuses goes to the
mending in `market.openrtb_decode`, so a type may be narrow without costing a request.

The Structs that use them are all ``frozen``, ``omit_defaults`` and ``gc=False`` (untracked by the
collector, which is safe because JSON has no cycles).
"""

from __future__ import annotations

import sys
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

Int64: TypeAlias = Annotated[int, Meta(ge=INT64_MIN, le=INT64_MAX)]
"""An integer that fits an array. The decoder would take digits of any length; these bounds make it
refuse a 23-digit integer, so that `market.openrtb_decode` mends the request and clamps it."""

Finite: TypeAlias = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
"""A finite float: without the bounds the strings "nan" and "inf" would decode as floats."""

Text: TypeAlias = str | int | float
"""An identifier, code or version: text in the specification, often a number on the wire. Read it
with `market.openrtb_reading.number_text`."""

Code: TypeAlias = str | Int64
"""An entry of an integer array, which may arrive as text, even as a name ("VAST 2.0"). Read the
array with `market.openrtb_reading.integers`."""

Signal: TypeAlias = Annotated[int, Meta(ge=INT64_MIN, le=INT64_MAX, extra={"unreadable": 1})]
"""A flag that protects the user. What cannot be read as a number is read as set, never as absent:
a signal that a sender garbled must not free what it was sent to forbid."""

SignalText: TypeAlias = Annotated[str, Meta(extra={"unreadable": "?"})]
"""The text of a privacy signal; one that is no text at all is read as unreadable text."""

SignalCode: TypeAlias = Annotated[Code, Meta(extra={"unreadable": "?"})]
"""A `Code` in a privacy signal; what is neither text nor number is kept, as a name of nothing."""

Name: TypeAlias = Annotated[str, Meta(min_length=1)]
"""Text without which its object cannot be answered: never absent, never empty."""

Keywords: TypeAlias = Annotated[str, Meta(extra={"separator": ","})]
"""Comma separated keywords; an array sent in its place is joined with the separator."""

NO_EXT: Final = msgspec.Raw()
"""The absent ``ext`` (and the absent ``native.request``)."""
