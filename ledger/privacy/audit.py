"""The audit log: who looked at or changed what, in a chain that cannot be edited unseen.

One JSON object a line. Each entry's digest is an HMAC over its content and the digest before it, so
that an entry that is changed, taken out, put in or moved breaks the chain from there on; without
the key nobody makes a digest that fits. The one thing a chain cannot show by itself is that its end
is missing: ``verify`` takes the last digest that somebody wrote down elsewhere.

An entry never holds a user's id. Whom an action was about is a keyed digest of it, which proves
afterwards that a request of this very person was carried out, and tells nobody else who it was.
"""

from __future__ import annotations

import fcntl
import hmac
import os
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from market.errors import Corrupt

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.privacy.secret import Secret

BEGINNING: Final = "0" * 64
"""What stands before the first entry."""

_TAIL_BYTES: Final = 1 << 16
_TEXT_MAX: Final = 2_048


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that was done.

    Attributes:
        sequence: 1, 2, ...
        at_ms: epoch milliseconds.
        actor: who did it: a user of the machine, or an API key's id.
        action: ``query``, ``export``, ``erase``, ``access``, ``retain``, ``mark``, ...
        subject: ``AuditLog.subject_of`` of the person that it was about; "" = of nobody.
        detail: what else there is to know, in one line.
        previous: digest of the entry before.
        digest: of all that stands here but itself.
    """

    sequence: int
    at_ms: int
    actor: str
    action: str
    subject: str
    detail: str
    previous: str
    digest: str = ""


class Chain(NamedTuple):
    """A chain that holds: how many entries, and the digest of the last one."""

    entries: int
    head: str


class AuditLog:
    """One file; any number of processes may append to it."""

    def __init__(self, path: Path, key: Secret) -> None:
        """Takes the file, which need not exist yet, and the key of its digests."""
        self._path = path
        self._key = key.derive("audit chain").reveal()
        self._subject_key = key.derive("audit subject").reveal()

    def subject_of(self, user_id: str) -> str:
        """Returns what stands for a person in an entry."""
        return hmac.digest(self._subject_key, user_id.encode(), "sha256").hex()

    def append(self, at_ms: int, actor: str, action: str, detail: str, subject: str = "") -> Entry:
        """Adds an entry, which is on disk when this returns.

        Raises:
            Corrupt: the last entry does not follow from the key: the file was edited, or the key
                is another.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            last = self._last(descriptor)
            entry = Entry(
                sequence=last.sequence + 1 if last else 1,
                at_ms=at_ms,
                actor=actor[:_TEXT_MAX],
                action=action[:_TEXT_MAX],
                subject=subject,
                detail=detail[:_TEXT_MAX],
                previous=last.digest if last else BEGINNING,
            )
            entry = msgspec.structs.replace(entry, digest=self._digest(entry))
            os.write(descriptor, msgspec.json.encode(entry) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return entry

    def verify(self, head: str = "") -> Chain:
        """Returns the chain, after looking at every entry of it.

        Args:
            head: a digest that was written down before; it must be that of an entry. "" = none was.

        Raises:
            Corrupt: an entry was changed, or the chain ends before ``head``; says where.
        """
        previous, count = BEGINNING, 0
        seen = head in ("", BEGINNING)
        body = self._path.read_bytes() if self._path.exists() else b""
        for number, line in enumerate(body.splitlines(), 1):
            entry = self._read(line, number)
            if entry.sequence != number or entry.previous != previous:
                raise Corrupt(
                    f"audit log {self._path.name} line {number}: it does not follow the entry "
                    "before it; entries were removed, added or moved"
                )
            previous, count = entry.digest, number
            seen = seen or entry.digest == head
        if not seen:
            raise Corrupt(
                f"audit log {self._path.name}: none of its {count} entries has the digest "
                f"{head[:16]}... that was written down; its end was removed"
            )
        return Chain(count, previous)

    def _last(self, descriptor: int) -> Entry | None:
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        whole = tail.rfind(b"\n") + 1
        if whole < len(tail):
            # A crash in the middle of an entry, which nobody was told of: it never happened.
            os.ftruncate(descriptor, size - len(tail) + whole)
        lines = tail[:whole].splitlines()
        return self._read(lines[-1], None) if lines else None

    def _read(self, line: bytes, number: int | None) -> Entry:
        where = "the last line" if number is None else f"line {number}"
        try:
            entry = msgspec.json.decode(line, type=Entry)
        except msgspec.MsgspecError as error:
            raise Corrupt(f"audit log {self._path.name} {where}: it is no entry") from error
        if not hmac.compare_digest(self._digest(entry), entry.digest):
            raise Corrupt(
                f"audit log {self._path.name} {where}: its digest does not fit; the entry was "
                "changed, or the key is another"
            )
        return entry

    def _digest(self, entry: Entry) -> str:
        content = msgspec.json.encode(msgspec.structs.replace(entry, digest=""))
        return hmac.digest(self._key, content, "sha256").hex()
