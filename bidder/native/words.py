"""Perfect hashes of short words: how a kernel tells keys and names apart with one comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

KEY_BYTES_MAX: Final = 24
KEY_SLOTS: Final = 128
_KEY_BITS: Final = 7
_TRIES: Final = 200_000
_U64: Final = 2**64 - 1
SECOND_WORD: Final = 0x9E3779B97F4A7C15
THIRD_WORD: Final = 0xC2B2AE3D27D4EB4F


def key_words(text: str) -> tuple[int, int, int]:
    """Returns a key's bytes as three little-endian words, zero behind its end."""
    padded = text.encode().ljust(KEY_BYTES_MAX, b"\0")
    assert len(padded) == KEY_BYTES_MAX, text
    first, second, third = (int.from_bytes(padded[i : i + 8], "little") for i in (0, 8, 16))
    return first, second, third


def key_slot(words: tuple[int, int, int], multiplier: int) -> int:
    """Returns the row of a word table in which the words may stand; as ``kernels_key.key_row``."""
    mixed = words[0] ^ words[1] * SECOND_WORD ^ words[2] * THIRD_WORD
    return ((mixed & _U64) * multiplier & _U64) >> (64 - _KEY_BITS)


def word_table(values: Mapping[str, int]) -> tuple[int, npt.NDArray[np.uint64]]:
    """Returns (multiplier, [KEY_SLOTS, 4] uint64): words and value of each text in its own row.

    A perfect hash: multipliers are tried until no two texts share a row.
    """
    words = {text: key_words(text) for text in values}
    state = 1
    for _ in range(_TRIES):
        state = (state * 0x5851F42D4C957F2D + 0x14057B7EF767814F) & _U64
        multiplier = state | 1
        rows = {key_slot(each, multiplier) for each in words.values()}
        if len(rows) == len(words):
            table = np.zeros((KEY_SLOTS, 4), np.uint64)
            for text, each in words.items():
                table[key_slot(each, multiplier)] = (*each, values[text])
            return multiplier, table
    raise AssertionError(f"no multiplier keeps {len(values)} texts apart in {KEY_SLOTS} rows")
