"""Secrets: keys that come from the environment or from a file, and show themselves nowhere.

A ``Secret`` prints as ``Secret(***)`` in logs, tracebacks and messages, cannot be pickled or
encoded by accident, and is compared in constant time.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from market.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_BYTES: Final = 32


class Secret:
    """A key of 32 bytes."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes, name: str = "key") -> None:
        """Takes the bytes.

        Raises:
            BadInput: there are not 32 of them; the message does not show them.
        """
        if len(key) != KEY_BYTES:
            raise BadInput(f"secret {name}: {len(key)} bytes; it must be {KEY_BYTES}")
        self._key = key

    def reveal(self) -> bytes:
        """Returns the bytes, for whoever signs or encrypts with them."""
        return self._key

    def derive(self, purpose: str) -> Secret:
        """Returns a key for one purpose, from which this one cannot be told."""
        return Secret(hmac.digest(self._key, f"lodestone {purpose}".encode(), "sha256"))

    def __repr__(self) -> str:
        """Shows nothing."""
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        """Compares without telling by time where two keys differ."""
        return isinstance(other, Secret) and hmac.compare_digest(self._key, other._key)

    def __hash__(self) -> int:
        """Returns the hash of the key."""
        return hash(self._key)

    def __reduce__(self) -> NoReturn:
        """Refuses to be pickled."""
        raise TypeError("a Secret is never pickled")


def read_secret(name: str, environment: Mapping[str, str]) -> Secret:
    """Returns the key in ``LODESTONE_<NAME>`` (hex), or in the file ``LODESTONE_<NAME>_FILE``.

    Args:
        name: in lower case, such as ``user_table_key``.
        environment: of the process; it is read at the edge and handed down.

    Raises:
        BadInput: neither is set, or both are, or what they hold is no key. What they hold is not
            shown.
    """
    variable = f"LODESTONE_{name.upper()}"
    text, file = environment.get(variable), environment.get(f"{variable}_FILE")
    if (text is None) == (file is None):
        raise BadInput(
            f"secret {name}: exactly one of {variable} (64 hex digits) and {variable}_FILE (a file "
            "that holds them) must be set in the environment"
        )
    if file is not None:
        path = Path(file)
        try:
            mode = path.stat().st_mode
            text = path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"secret {name}: file {path.name} cannot be read") from error
        if mode & 0o077:
            raise BadInput(
                f"secret {name}: file {path.name} can be read by others than its owner; chmod 600"
            )
    try:
        key = bytes.fromhex(text or "")
    except ValueError:
        # Without "from": the error would quote what was read.
        raise BadInput(f"secret {name}: it must be 64 hex digits") from None
    return Secret(key, name)
