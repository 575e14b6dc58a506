"""Keyed random numbers in Python integers, modulo 2^64 by hand.

Sources: the finaliser of splitmix64, Steele, Lea and Flood, OOPSLA 2014, figure 16; Box and Muller,
1958; the composition of keys is the one that ``market.kernels`` documents.
"""

from __future__ import annotations

import math

WORD = 2**64
GOLDEN = 0x9E3779B97F4A7C15
ODD = 0xD1342543DE82EF95


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def unmix(z):
    """The z that ``mix`` maps to this one: every step undone, last first."""
    z = _unshift(z, 31) * pow(0x94D049BB133111EB, -1, WORD) % WORD
    z = _unshift(z, 27) * pow(0xBF58476D1CE4E5B9, -1, WORD) % WORD
    return _unshift(z, 30)


def _unshift(z, bits):
    """The y for which y ^ (y >> bits) is z: its highest bits are z's, the others follow."""
    y = z
    for _ in range(64 // bits + 1):
        y = z ^ (y >> bits)
    return y


def stream(seed, purpose):
    return mix((seed * GOLDEN + purpose) % WORD)


def at_opportunity(key, key_hi, key_lo):
    return mix((mix(key ^ key_hi) + key_lo) % WORD)


def uniform(key, actor):
    return (mix((key + actor * ODD) % WORD) >> 11) / 2**53


def normal(key, actor):
    own = mix(key ^ GOLDEN)
    first, second = uniform(own, 2 * actor % WORD), uniform(own, (2 * actor + 1) % WORD)
    return math.sqrt(-2 * math.log(1 - first)) * math.cos(2 * math.pi * second)


def hash_pair(a, b):
    return mix(mix((a + GOLDEN) % WORD) ^ (b * ODD % WORD))


def feature_row(field, code, buckets):
    """Row of a code among the ``buckets`` rows of its field; the first stands for "absent"."""
    if code == 0:
        return field * buckets
    return field * buckets + 1 + hash_pair(field, code) % (buckets - 1)


def context_features(context_dimensions, dimensions, segments, buckets, count):
    """Rows of the fields: the chosen dimensions, then the first segments, then absent ones."""
    codes = [dimensions[d] for d in context_dimensions] + list(segments)
    codes = (codes + [0] * count)[:count]
    return [feature_row(field, code, buckets) for field, code in enumerate(codes)]
