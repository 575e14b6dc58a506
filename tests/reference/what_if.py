"""Intervals of a comparison by the textbook's sums, one number after the other."""

from __future__ import annotations

import math

T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 19: 2.093, 29: 2.045}
"""Student's t at 97.5 % by degrees of freedom, as printed in tables."""


def paired_interval(differences):
    """Student's interval of a mean: mean -+ t s / sqrt(n)."""
    n = len(differences)
    mean = sum(differences) / n
    variance = sum((d - mean) ** 2 for d in differences) / (n - 1)
    reach = T_95[n - 1] * math.sqrt(variance / n)
    return mean, mean - reach, mean + reach


def ratio_interval(above, below, other_above, other_below):
    """Jackknife of sum(above) / sum(below) - sum(other_above) / sum(other_below)."""
    n = len(above)

    def estimate(left_out):
        kept = [i for i in range(n) if i != left_out]
        one = sum(above[i] for i in kept) / sum(below[i] for i in kept)
        return one - sum(other_above[i] for i in kept) / sum(other_below[i] for i in kept)

    whole = estimate(None)
    without = [estimate(i) for i in range(n)]
    mean = sum(without) / n
    reach = T_95[n - 1] * math.sqrt((n - 1) / n * sum((w - mean) ** 2 for w in without))
    return whole, whole - reach, whole + reach
