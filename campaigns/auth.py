"""API keys: who is calling, and for which advertiser.

A key reads ``<key id>.<secret>``. The id finds the row; of the secret, 256 random bits, only the
SHA-256 is kept: a slow hash defends secrets that people choose, and adds nothing to random ones.
The first advertiser's key is handed over in a file that only the owner of the run can read, never
in a log, an argument or a response.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select

from campaigns.refusals import Refusal, RefusalKind
from campaigns.store import Advertiser, ApiKey, Role

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

    from campaigns.store import Store

_KEY_ID_BYTES = 8
_SECRET_BYTES = 32
# 22 characters of base64url hold 128 bits: a shorter secret is none of ours and is not adopted.
_KEY = re.compile(r"(lk_[0-9a-f]{16})\.([A-Za-z0-9_-]{22,128})")
_NO_HASH = hashlib.sha256(b"").hexdigest()
_REFUSED = "send a valid key as 'Authorization: Bearer <key id>.<secret>'"


class Actor(NamedTuple):
    """Who is calling.

    Attributes:
        advertiser_id: the one advertiser whose campaigns exist for this caller.
        key_id: the key that was used; what change events name.
        role: what it may do.
    """

    advertiser_id: int
    key_id: str
    role: Role


def authenticate(session: Session, authorization: str | None) -> Actor:
    """Returns who sent this ``Authorization`` header.

    Raises:
        Refusal: UNAUTHENTICATED, in the same words whatever is wrong with the key.
    """
    scheme, _, key = (authorization or "").partition(" ")
    match = _KEY.fullmatch(key.strip())
    if scheme.lower() != "bearer" or match is None:
        raise Refusal(RefusalKind.UNAUTHENTICATED, _REFUSED)
    key_id, secret = match.groups()
    row = session.get(ApiKey, key_id)
    # An unknown id costs the same comparison as a known one.
    expected = _NO_HASH if row is None else row.secret_sha256
    is_secret = hmac.compare_digest(_hash(secret), expected)
    if row is None or not is_secret or row.revoked_at_ms is not None:
        raise Refusal(RefusalKind.UNAUTHENTICATED, _REFUSED)
    return Actor(row.advertiser_id, row.key_id, Role(row.role))


def require_editor(actor: Actor) -> None:
    """Returns if ``actor`` may change campaigns.

    Raises:
        Refusal: FORBIDDEN.
    """
    if actor.role is not Role.EDITOR:
        raise Refusal(
            RefusalKind.FORBIDDEN,
            f"API key {actor.key_id}: its role is {actor.role}; changes need {Role.EDITOR}",
        )


def add_advertiser(session: Session, name: str, now_ms: int) -> int:
    """Adds an advertiser and returns its id."""
    advertiser = Advertiser(name=name, created_at_ms=now_ms)
    session.add(advertiser)
    session.flush()
    return advertiser.advertiser_id


def add_key(session: Session, advertiser_id: int, role: Role, now_ms: int) -> str:
    """Adds a new key and returns its text, which cannot be had a second time."""
    key = _new_key()
    _keep_key(session, key, advertiser_id, role, now_ms)
    return key


def ensure_first_advertiser(store: Store, key_path: Path, name: str, now_ms: int) -> None:
    """Makes sure there is an advertiser, and that ``key_path`` holds an editor's key of the first.

    A well-formed key that already lies there and is unknown is adopted, so that whoever starts the
    engine may choose it; a known and valid one is left alone; anything else is replaced. A crash
    at any point is healed by the next start.
    """
    with store.writing() as session:
        advertiser_id = session.execute(
            select(Advertiser.advertiser_id).order_by(Advertiser.advertiser_id).limit(1)
        ).scalar_one_or_none()
        if advertiser_id is None:
            advertiser_id = add_advertiser(session, name, now_ms)
        key = key_path.read_text().strip() if key_path.exists() else ""
        match = _KEY.fullmatch(key)
        row = None if match is None else session.get(ApiKey, match.group(1))
        if match is not None and row is not None:
            with contextlib.suppress(Refusal):
                authenticate(session, f"Bearer {key}")
                return
        if match is None or row is not None:
            key = _new_key()
            _write_private(key_path, key)
        key_path.chmod(0o600)
        _keep_key(session, key, advertiser_id, Role.EDITOR, now_ms)


def _new_key() -> str:
    # The machine's entropy, never a seeded generator: a key that can be foretold is none.
    return f"lk_{secrets.token_hex(_KEY_ID_BYTES)}.{secrets.token_urlsafe(_SECRET_BYTES)}"


def _keep_key(session: Session, key: str, advertiser_id: int, role: Role, now_ms: int) -> None:
    key_id, _, secret = key.partition(".")
    session.add(
        ApiKey(
            key_id=key_id,
            secret_sha256=_hash(secret),
            advertiser_id=advertiser_id,
            role=role.value,
            created_at_ms=now_ms,
            revoked_at_ms=None,
        )
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
