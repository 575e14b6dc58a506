"""Sizes and boxes, in whole pixels; y points down."""

from __future__ import annotations

import msgspec

from market.errors import BadInput

SIDE_PX_MAX = 4096
"""Pixels of a side; the largest size in use is 1920, twice that for dense screens."""


class Size(msgspec.Struct, frozen=True, order=True, forbid_unknown_fields=True):
    """Width and height of a creative, in pixels."""

    width: int
    height: int

    def __post_init__(self) -> None:
        """Raises BadInput when a side is out of range."""
        if not (0 < self.width <= SIDE_PX_MAX and 0 < self.height <= SIDE_PX_MAX):
            msg = f"size is {self}; each side must be 1 to {SIDE_PX_MAX} pixels"
            raise BadInput(msg, "/size")

    def __str__(self) -> str:
        """The trade's spelling: ``300x250``."""
        return f"{self.width}x{self.height}"


STANDARD_SIZES = (
    Size(300, 250),
    Size(320, 50),
    Size(728, 90),
    Size(160, 600),
    Size(300, 600),
    Size(970, 250),
    Size(1200, 628),
    Size(1080, 1920),
    Size(320, 480),
)
"""IAB display sizes, the wide and the tall one of social feeds, and the small interstitial."""


class Box(msgspec.Struct, frozen=True):
    """Pixels from (left, top) up to, not including, (right, bottom)."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels across."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels down."""
        return self.bottom - self.top

    def contains(self, other: Box) -> bool:
        """Whether every pixel of ``other`` is one of this box."""
        return (
            self.left <= other.left
            and self.top <= other.top
            and other.right <= self.right
            and other.bottom <= self.bottom
        )

    def overlaps(self, other: Box) -> bool:
        """Whether the two share a pixel."""
        shared = self.clipped(other)
        return shared.width > 0 and shared.height > 0

    def inset(self, across: int, down: int) -> Box:
        """The box without a margin on each side."""
        return Box(self.left + across, self.top + down, self.right - across, self.bottom - down)

    def clipped(self, other: Box) -> Box:
        """The pixels shared with ``other``; a side is 0 or less where there are none."""
        return Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )

    def moved(self, x: int, y: int) -> Box:
        """The box shifted by (x, y)."""
        return Box(self.left + x, self.top + y, self.right + x, self.bottom + y)

    def __str__(self) -> str:
        """``140x60 at (12, 30)``, for messages."""
        return f"{self.width}x{self.height} at ({self.left}, {self.top})"
