"""Arrays that grow without being copied, so that nothing waits while a large one does.

The memory is a private mapping of its own: the system moves its pages by their table, and hands out
new ones, filled with zeros, when they are first touched. What is not used yet costs nothing.
"""

from __future__ import annotations

import contextlib
import mmap
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

ScalarT = TypeVar("ScalarT", bound=np.generic)
_LARGE_BYTES: Final = 16 << 20
_HUGE_PAGES: Final[int | None] = getattr(mmap, "MADV_HUGEPAGE", None)


class GrowingArray(Generic[ScalarT]):
    """A one-dimensional array that starts with 0 entries.

    Attributes:
        array: the entries.
        bytes: the same, as bytes.
    """

    array: npt.NDArray[ScalarT]
    bytes: memoryview

    def __init__(self, dtype: np.dtype[ScalarT]) -> None:
        """Starts empty; ``grow`` it before use."""
        self._dtype = dtype
        self._memory: mmap.mmap | None = None

    def grow(self, count: int) -> None:
        """Makes it ``count`` entries long; new ones are zero.

        Nobody may hold a view of it: views stay where the array was, and so it cannot move.

        Raises:
            BufferError: somebody does.
        """
        size = -(-count * self._dtype.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE
        self.__dict__.pop("array", None)
        self.__dict__.pop("bytes", None)
        if self._memory is None:
            self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        else:
            self._memory.resize(size)
        if size >= _LARGE_BYTES and _HUGE_PAGES is not None:
            # A page fault costs as much as ten bids; where the system has no such pages it says so.
            with contextlib.suppress(OSError):
                self._memory.madvise(_HUGE_PAGES)
        self.array = np.frombuffer(self._memory, self._dtype, count)
        self.bytes = memoryview(self._memory)[: count * self._dtype.itemsize]
