"""How much arithmetic a core does with data in its first cache level, to hold kernels against."""

# pyright: reportArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from market.kernel import kernel

if TYPE_CHECKING:
    from simulator.period.seam import F32


@kernel
def multiply_add(x: F32, y: F32, z: F32, rounds: int) -> None:
    """Nine multiplications and nine additions an element, ``rounds`` times."""
    for _ in range(rounds):
        for j in range(x.shape[0]):
            a, b, c = x[j], y[j], z[j]
            d = a * b + c
            e = b * c + a
            f = c * a + b
            g = d * e + f
            h = e * f + d
            i = f * d + e
            z[j] = (g * h + i) * np.float32(1e-3) + (h * i + g)
