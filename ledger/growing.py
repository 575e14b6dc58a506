"""Arrays that grow without being copied, so that nothing waits while a large one does.

The memory is a private mapping of its own: the system moves its pages by their table, and hands
out new ones, filled with zeros, when they are first touched. What is not used yet costs nothing.
Pages are small ones on purpose: huge ones cost less in all where memory is idle, but where a
hypervisor has yet to find the memory, the bid that touches one first waits for 5 to 15 ms.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

ScalarT = TypeVar("ScalarT", bound=np.generic)


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
        self.array = np.frombuffer(self._memory, self._dtype, count)
        self.bytes = memoryview(self._memory)[: count * self._dtype.itemsize]
