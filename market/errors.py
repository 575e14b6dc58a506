"""The error tree. A class says who must act; a message names the thing, its value and the rule.

    LodestoneError
    ├── BadInput      the caller must change what was sent (not logged: no operator can act on it)
    │   └── Forbidden the caller may not do this: a forged notice, another advertiser's campaign
    ├── NotReady      nothing is wrong with the input: retry later (a full disk, a store that lags)
    └── Corrupt       stop: a file or message of our own is damaged and an operator must decide

Programmer errors are ``assert``; no class here stands for one.
"""

from __future__ import annotations


class LodestoneError(Exception):
    """Base of every error that lodestone raises on purpose."""


class BadInput(LodestoneError):
    """The caller sent something that breaks a rule; nothing was stored.

    Attributes:
        pointer: JSON pointer (RFC 6901) to the offending field, or "" when the whole input is bad.
    """

    def __init__(self, message: str, pointer: str = "") -> None:
        """Keeps ``message`` (thing, value, rule) and the ``pointer`` to the field."""
        super().__init__(message)
        self.pointer = pointer


class Forbidden(BadInput):
    """The caller is not allowed to do this, whatever else the input says."""


class NotReady(LodestoneError):
    """The input is fine but cannot be served now; the caller should retry."""


class Corrupt(LodestoneError):
    """A file or message that lodestone wrote is damaged; the message says which and what to do."""
