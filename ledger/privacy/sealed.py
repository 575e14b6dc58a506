"""Sealed bytes and files: AES-256-GCM, under a name, so that one cannot be put in another's place.

A file is written beside and takes the old one's name, so that it is there as a whole or not at all.

Source: NIST SP 800-38D; the 96-bit nonces are random, of which one key may use 2^32.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from market.errors import Corrupt

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.privacy.secret import Secret

NONCE_BYTES: Final = 12


def seal(key: Secret, name: str, body: bytes) -> bytes:
    """Returns ``body`` encrypted: nonce, then ciphertext with its tag."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key.reveal()).encrypt(nonce, body, name.encode())


def unseal(key: Secret, name: str, sealed: bytes) -> bytes:
    """Returns what ``seal`` was given.

    Raises:
        Corrupt: it was changed, or sealed under another name or key.
    """
    try:
        return AESGCM(key.reveal()).decrypt(
            sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], name.encode()
        )
    except (InvalidTag, ValueError) as error:
        raise Corrupt(
            f"sealed {name}: it cannot be opened: it was changed, or sealed with another key; "
            "set the key that it was sealed with, or restore it from a copy"
        ) from error


def read_sealed(path: Path, key: Secret, name: str) -> bytes:
    """Returns what is sealed in a file; see ``unseal``."""
    return unseal(key, name, path.read_bytes())


def write_sealed(path: Path, key: Secret, name: str, body: bytes) -> None:
    """Seals ``body`` into a file that only its owner can read."""
    beside = path.with_name(f".{path.name}.part")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, seal(key, name, body))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
