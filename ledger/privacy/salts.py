"""Rotating salts: what turns a user's id into a pseudonym, and for how long that can be undone.

The salt in use is the deployment's ``user_salt_hex``. When it is replaced, the old one is kept in a
sealed file for as long as somebody's request to see or erase their data must find what was recorded
under it, and then destroyed: from then on no one, the operator included, can say whose a pseudonym
of that time was. A new salt also means new pseudonyms: frequency counts begin anew, and journeys
join across the change only over the consented map (``ledger.privacy.users``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from ledger.privacy.sealed import read_sealed, write_sealed
from market.chance import user_key
from market.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.privacy.secret import Secret

SALT_BYTES: Final = 16
_NAME: Final = "user salts"


class OldSalt(msgspec.Struct, frozen=True):
    """A salt that is no longer in use, and when it was replaced."""

    salt: bytes
    replaced_ms: int


class Salts(msgspec.Struct, frozen=True):
    """The salt in use and those whose pseudonyms can still be found.

    Attributes:
        current: 16 bytes.
        old: in the order in which they were replaced.
    """

    current: bytes
    old: tuple[OldSalt, ...] = ()

    def __repr__(self) -> str:
        """Shows no salt."""
        return f"Salts(***, {len(self.old)} old)"

    def user_keys(self, user_id: str) -> tuple[int, ...]:
        """Returns every pseudonym that a user id has or had, the one in use first."""
        keys = [user_key(salt, user_id) for salt in (self.current, *(old.salt for old in self.old))]
        return tuple(dict.fromkeys(keys))

    def rotated(self, new_salt: bytes, now_ms: int, keep_ms: int) -> Salts:
        """Returns the salts after a change, without those that were replaced ``keep_ms`` ago.

        Raises:
            BadInput: the new salt has another length, or was used before.
        """
        if len(new_salt) != SALT_BYTES:
            raise BadInput(f"user salt of {len(new_salt)} bytes: it must have {SALT_BYTES}")
        known = {self.current, *(old.salt for old in self.old)}
        if new_salt in known:
            raise BadInput("user salt: it was used before; a new one must be drawn at random")
        left = tuple(old for old in self.old if old.replaced_ms > now_ms - keep_ms)
        return Salts(new_salt, (*left, OldSalt(self.current, now_ms)))


def read_salts(path: Path, key: Secret, current: bytes) -> Salts:
    """Returns the salts: the one in use, and the old ones in a sealed file, if there is one.

    Raises:
        Corrupt: the file was changed, or sealed with another key.
    """
    if not path.exists():
        return Salts(current)
    body = read_sealed(path, key, _NAME)
    old = msgspec.msgpack.decode(body, type=tuple[OldSalt, ...])
    return Salts(current, tuple(each for each in old if each.salt != current))


def write_salts(path: Path, key: Secret, salts: Salts) -> None:
    """Stores the old salts, sealed; those that were there and are not among them are gone."""
    write_sealed(path, key, _NAME, msgspec.msgpack.encode(salts.old))
