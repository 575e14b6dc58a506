"""The user table: who consented to be one person on several devices; encrypted row by row.

A row says that the user behind a pseudonym consented to be joined under a person code, when, and
by which consent. Both are sealed, and the row's name is a keyed digest, so that the file tells
nobody who is in it. Whoever withdraws is removed, and SQLite overwrites what is removed.

``identity`` is what attribution joins devices by; it holds consented users only, because nobody
else is in the table.
"""

from __future__ import annotations

import contextlib
import hmac
import sqlite3
import struct
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from ledger.attribution.identity import Identity, identity_of
from ledger.privacy.sealed import seal, unseal
from market.errors import BadInput, NotReady

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from pathlib import Path

    from ledger.privacy.salts import Salts
    from ledger.privacy.secret import Secret

USERS_FILE: Final = "users.sqlite"
"""Where a run keeps it, below its folder."""

_DDL: Final = """
CREATE TABLE IF NOT EXISTS users (
  name BLOB PRIMARY KEY,
  sealed BLOB NOT NULL
) WITHOUT ROWID
"""
_U64: Final = struct.Struct("<Q")


class Link(msgspec.Struct, frozen=True):
    """A user's consent to be joined.

    Attributes:
        user_key: pseudonym; never 0.
        person_code: what joins: a hash of a login, a household; 64 bits.
        consented_ms: when.
        consent: what the consent was given by: a TC string, a form's name and version.
    """

    user_key: int
    person_code: int
    consented_ms: int
    consent: str

    def __post_init__(self) -> None:
        """Checks the numbers, and that there was a consent."""
        if not 0 < self.user_key < 1 << 64 or not 0 <= self.person_code < 1 << 64:
            raise BadInput("user link: user key must be in 1..2^64-1, person code in 0..2^64-1")
        if not self.consent.strip():
            raise BadInput("user link: without a consent nobody is joined with anybody")


class Consent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a consent platform says of one user id.

    Attributes:
        user_id: as in bid requests.
        person: what joins several of them: a login, a household; it is kept as a keyed hash.
        consented_ms: when.
        consent: what it was given by.
        is_withdrawn: the user is to be joined with nobody from now on.
    """

    user_id: str
    person: str
    consented_ms: int
    consent: str
    is_withdrawn: bool = False


def read_consents(text: str, salts: Salts, key: Secret) -> tuple[tuple[Link, ...], tuple[int, ...]]:
    """Returns (links to put, user keys to erase) of consents, a JSON object a line.

    A user is joined under every pseudonym that can still be found, so that a person stays one over
    a change of the salt.

    Raises:
        BadInput: a line is no consent; names the line, and shows nothing of it.
    """
    persons = key.derive("person codes").reveal()
    links: list[Link] = []
    withdrawn: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            said = msgspec.json.decode(line, type=Consent)
        except msgspec.MsgspecError:
            # Without the cause: it could quote the line, which tells of a person.
            raise BadInput(
                f"consents line {number}: it must be a JSON object with user_id, person, "
                "consented_ms, consent"
            ) from None
        keys = salts.user_keys(said.user_id)
        if said.is_withdrawn:
            withdrawn += keys
            continue
        (code,) = _U64.unpack(hmac.digest(persons, said.person.encode(), "sha256")[: _U64.size])
        links += [Link(each, code, said.consented_ms, said.consent) for each in keys]
    return tuple(links), tuple(withdrawn)


class UserTable:
    """The table in one file; one process writes at a time."""

    def __init__(self, path: Path, key: Secret) -> None:
        """Opens the file, or makes it, readable by its owner only.

        Raises:
            NotReady: another process is writing.
        """
        path.touch(mode=0o600)
        self._names = key.derive("user names").reveal()
        self._key = key.derive("user rows")
        self._database = sqlite3.connect(path, timeout=5.0, isolation_level=None)
        with _in_words():
            self._database.execute("PRAGMA secure_delete = ON")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute(_DDL)

    def put(self, links: Iterable[Link]) -> None:
        """Adds links; one of a user that is there replaces it."""
        rows = [(self._name(link.user_key), self._sealed(link)) for link in links]
        with _in_words(), self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(
                "INSERT INTO users (name, sealed) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed",
                rows,
            )

    def find(self, user_key: int) -> Link | None:
        """Returns the link of a user; None where there is none.

        Raises:
            Corrupt: the row was changed, or the key is another.
        """
        row = self._database.execute(
            "SELECT name, sealed FROM users WHERE name = ?", (self._name(user_key),)
        ).fetchone()
        return None if row is None else self._opened(*row)

    def erase(self, user_keys: Sequence[int]) -> int:
        """Removes users, and returns how many were there."""
        names = [(self._name(key),) for key in user_keys]
        with _in_words(), self._database:
            self._database.execute("BEGIN IMMEDIATE")
            before = self._database.total_changes
            self._database.executemany("DELETE FROM users WHERE name = ?", names)
            return self._database.total_changes - before

    def links(self) -> Iterator[Link]:
        """Yields every link, in no order that says anything.

        Raises:
            Corrupt: a row was changed, or the key is another.
        """
        for name, sealed in self._database.execute("SELECT name, sealed FROM users ORDER BY name"):
            yield self._opened(name, sealed)

    def identity(self) -> Identity:
        """Returns who is one person with whom, for attribution."""
        links = list(self.links())
        return identity_of(
            np.array([link.user_key for link in links], np.uint64),
            np.array([link.person_code for link in links], np.uint64),
        )

    def close(self) -> None:
        """Lets the file go."""
        self._database.close()

    def _name(self, user_key: int) -> bytes:
        if not 0 < user_key < 1 << 64:
            raise BadInput("user key: it must be in 1..2^64-1")
        return hmac.digest(self._names, _U64.pack(user_key), "sha256")

    def _sealed(self, link: Link) -> bytes:
        return seal(self._key, self._name(link.user_key).hex(), msgspec.msgpack.encode(link))

    def _opened(self, name: bytes, sealed: bytes) -> Link:
        return msgspec.msgpack.decode(unseal(self._key, name.hex(), sealed), type=Link)


@contextlib.contextmanager
def _in_words() -> Generator[None]:
    """Says in the words of the house that the file is locked."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise NotReady(f"user table: {error}; another process writes to it, retry") from error
