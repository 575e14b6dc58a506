"""Scalar kernels that every room shares: keyed random numbers, and the price-to-amount rule.

Keyed random numbers: a draw is a pure function of (seed, purpose, opportunity, actor). It does not
depend on what anyone bid, on the order of ticks, on the block size or on the number of threads, so
that two policies meet the same coins (common random numbers).

Traps of the compiler that shape this file: ``uint64 + int64`` is float64 in numba, so every operand
is cast, keys too, because a key that was returned to Python comes back as an int; constants are
module globals and therefore frozen at compile time.
"""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The three rules that compare them are off
# inside; callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from market.kernel import kernel

if TYPE_CHECKING:
    import numpy.typing as npt

_ONE = np.uint64(1)
_S11 = np.uint64(11)
_S27 = np.uint64(27)
_S30 = np.uint64(30)
_S31 = np.uint64(31)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ODD = np.uint64(0xD1342543DE82EF95)
_MILLION = np.int64(1_000_000)
_BILLION = np.int64(1_000_000_000)


@kernel
def mix(z: np.uint64) -> np.uint64:
    """Returns ``z`` scrambled so that every input bit moves every output bit; a bijection.

    Source: the splitmix64 finaliser, Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014, figure 16 (variant 13 of Stafford's mixers).
    """
    z = np.uint64(z)
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


@kernel
def stream(seed: int, purpose: int) -> np.uint64:
    """Returns the key of one stream of draws: ``purpose`` is a ``market.chance.Purpose``."""
    return mix(np.uint64(seed) * _GOLDEN + np.uint64(purpose))


@kernel
def at_opportunity(key: np.uint64, key_hi: np.uint64, key_lo: np.uint64) -> np.uint64:
    """Returns ``key`` (of ``stream``) narrowed to one opportunity, named by its 128-bit key."""
    return mix(mix(np.uint64(key) ^ np.uint64(key_hi)) + np.uint64(key_lo))


@kernel
def uniform(key: np.uint64, actor: int) -> float:
    """Returns the draw in [0, 1) of ``actor`` under ``key`` (of ``stream`` or ``at_opportunity``).

    The actor enters by a multiplication with an odd constant and a second mix, so that actors never
    repeat one another however many there are (packing them into low bits repeats past 4,096).
    """
    return np.float64(mix(np.uint64(key) + np.uint64(actor) * _ODD) >> _S11) * 2.0**-53


@kernel
def normal(key: np.uint64, actor: int) -> float:
    """Returns the standard normal draw of ``actor`` under ``key``.

    Source: Box and Muller, 1958; the two uniforms are those of actors ``2 actor`` and
    ``2 actor + 1`` of a stream derived from ``key``, so it never shares a uniform with ``key``.
    """
    own = mix(np.uint64(key) ^ _GOLDEN)
    radius = np.sqrt(-2.0 * np.log(1.0 - uniform(own, np.uint64(2) * np.uint64(actor))))
    return radius * np.cos(2.0 * np.pi * uniform(own, np.uint64(2) * np.uint64(actor) + _ONE))


@kernel
def hash_pair(a: np.uint64, b: np.uint64) -> np.uint64:
    """Returns one 64-bit name for the ordered pair (a, b)."""
    return mix(mix(np.uint64(a) + _GOLDEN) ^ (np.uint64(b) * _ODD))


@kernel
def scale_up(value: int, factor_micros: int) -> int:
    """Returns ceil(value * factor_micros / 10^6) without overflow for value, factor < 2^40."""
    value = np.int64(value)
    factor_micros = np.int64(factor_micros)
    whole = value // _MILLION
    rest = value - whole * _MILLION
    return whole * factor_micros + -((-rest * factor_micros) // _MILLION)


@kernel
def scale_down(value: int, factor_micros: int) -> int:
    """Returns floor(value * 10^6 / factor_micros): the inverse of ``scale_up``, never above it."""
    value = np.int64(value)
    factor_micros = np.int64(factor_micros)
    whole = value // factor_micros
    rest = value - whole * factor_micros
    return whole * _MILLION + (rest * _MILLION) // factor_micros


@kernel
def amount_micros(price_cpm_micros: int, quantity_micros: int, rate_micros: int) -> int:
    """Returns what ``quantity_micros / 10^6`` impressions cost at a price per thousand, rounded up.

    amount = ceil(ceil(price * rate) * quantity / 1000), where ``rate_micros`` is account currency
    per unit of bid currency, times 10^6. Two ceilings: the price is first a price in the account's
    currency (whole micros), then an amount, so the result is never below the exact one, and above
    it by less than 1 + quantity_micros / 10^9 micros. Without overflow for a price up to
    ``market.money.PRICE_CPM_MICROS_MAX``, a rate below 2^40 and a quantity up to 10^9 (1,000
    impressions per bid).

    Source: OpenRTB 2.6 section 4.2.3 (prices are CPM) and 3.2.31 (qty.multiplier).
    """
    price = scale_up(price_cpm_micros, rate_micros)
    quantity = np.int64(quantity_micros)
    whole = price // _BILLION
    rest = price - whole * _BILLION
    return whole * quantity + -((-rest * quantity) // _BILLION)


@kernel
def feature_row(field: int, code: np.uint64, buckets: int) -> int:
    """Returns the table row of ``code`` in ``field``; a code of 0 (absent) has the field's row 0.

    Feature hashing, Weinberger et al., ICML 2009; collisions stay inside a field.
    """
    first = np.int64(field) * np.int64(buckets)
    if np.uint64(code) == np.uint64(0):
        return first
    name = hash_pair(np.uint64(field), np.uint64(code))
    return first + np.int64(1) + np.int64(name % np.uint64(buckets - 1))


@kernel
def context_features(
    context_dimensions: npt.NDArray[np.int64],
    dimensions: npt.NDArray[np.uint64],
    segments: npt.NDArray[np.uint64],
    buckets: int,
    out: npt.NDArray[np.uint32],
) -> None:
    """Fills out[F] with the rows of the user and context table for one opportunity.

    Shapes: context_dimensions[D] (which of dimensions are fields), dimensions[DIMENSION_COUNT]
    uint64 codes, segments[S] uint64 codes; the first F - D of them become fields, in order.
    """
    d = context_dimensions.shape[0]
    for field in range(out.shape[0]):
        code = np.uint64(0)
        if field < d:
            code = dimensions[context_dimensions[field]]
        elif field - d < segments.shape[0]:
            code = segments[field - d]
        out[field] = np.uint32(feature_row(field, code, buckets))
