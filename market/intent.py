"""The published intent: what all advertisers want now, in versioned files that are polled.

The control plane owns intent and keeps it in its own database; these files are how it tells the
controller, which must not know that database. One file a version, and ``current``, which names the
newest; both appear by rename, so a reader sees all of a version or none of it.

    intent/0000000012.json   the document, kept for a few versions so that a reader is never robbed
    intent/current           "12"

A version counts changes of the control plane's store; what changed is deliberately not said.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from market.campaign import Campaign
from market.errors import Corrupt

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS_KEPT = 16
"""How many versions stay readable: a reader that saw ``current`` has this many changes of time."""

_CURRENT = "current"
_CURE = "restart the control plane, which writes it again from its own store"


class Intent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that advertisers want, as of one version.

    Attributes:
        version: counts changes of the campaign store; 0 = nothing was ever published.
        campaigns: all campaigns of all advertisers, by ascending id, paused ones too.
    """

    version: int
    campaigns: tuple[Campaign, ...] = ()


def intent_path(folder: Path, version: int) -> Path:
    """Returns where the intent of this version lies in ``folder``."""
    return folder / f"{version:010d}.json"


def write_intent(folder: Path, intent: Intent) -> Path:
    """Writes ``intent``, makes it the current one, and returns its path once both are on disk.

    Only one process may write to a folder. The version may be lower than the current one (a
    restored backup): readers compare for difference, not for order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = intent_path(folder, intent.version)
    _replace(path, msgspec.json.encode(intent))
    _replace(folder / _CURRENT, str(intent.version).encode())
    _sync_folder(folder)
    old = sorted(folder.glob("[0-9]*.json"), key=lambda each: each.stat().st_mtime_ns)
    for each in old[:-VERSIONS_KEPT]:
        each.unlink()
    return path


def intent_version(folder: Path) -> int:
    """Returns the version of the current intent, 0 if none was published; reads a few bytes.

    Raises:
        Corrupt: the file that names it holds no number.
    """
    try:
        text = (folder / _CURRENT).read_bytes()
    except FileNotFoundError:
        return 0
    if not text.isdigit():
        raise Corrupt(f"intent {_CURRENT}: holds {text[:32]!r}, must be a version; {_CURE}")
    return int(text)


def read_intent(folder: Path) -> Intent:
    """Returns the current intent; version 0 without campaigns if none was published.

    Raises:
        Corrupt: the file is missing or breaks its schema.
    """
    version = intent_version(folder)
    if version == 0:
        return Intent(0)
    path = intent_path(folder, version)
    try:
        intent = msgspec.json.decode(path.read_bytes(), type=Intent)
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise Corrupt(f"intent {path.name}: {error}; {_CURE}") from error
    if intent.version != version:
        raise Corrupt(f"intent {path.name}: says it is version {intent.version}; {_CURE}")
    return intent


def _replace(path: Path, body: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
