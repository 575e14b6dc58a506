"""What calibration computes, slowly and obviously, from the definitions and not from its code."""

from __future__ import annotations

import math

from scipy import integrate, stats

from market.chance import Purpose
from tests.reference import chance


def best_rival_below(x, rivals, shift=0.0):
    """P(no present rival bids x or more); rivals are (presence, median, sigma), log-normal."""
    total = 1.0
    for presence, median, sigma in rivals:
        law = stats.lognorm(s=sigma, scale=median * math.exp(shift))
        total *= 1.0 - presence + presence * law.cdf(x)
    return total


def best_rival_density(x, rivals, shift=0.0):
    """The derivative: one rival bids exactly x, and the others are below or absent."""
    total = 0.0
    for k, (presence, median, sigma) in enumerate(rivals):
        law = stats.lognorm(s=sigma, scale=median * math.exp(shift))
        others = rivals[:k] + rivals[k + 1 :]
        total += presence * law.pdf(x) * best_rival_below(x, others, shift)
    return total


def best_rival_above(x, rivals, shift=0.0):
    """1 - P(no present rival bids x or more), where that is too close to 1 to be taken off it."""
    log_below = 0.0
    for presence, median, sigma in rivals:
        law = stats.lognorm(s=sigma, scale=median * math.exp(shift))
        log_below += math.log1p(-presence * law.sf(x))
    return -math.expm1(log_below)


def price_log_likelihood(known, price, rivals, shift=0.0):
    """``known``: 0 the price itself, 1 an upper bound of it, 2 a lower bound; -inf: impossible."""
    if known == 0:
        likelihood = best_rival_density(price, rivals, shift)
    elif known == 1:
        likelihood = best_rival_below(price, rivals, shift)
    else:
        likelihood = best_rival_above(price, rivals, shift)
    return math.log(likelihood) if likelihood > 0.0 else -math.inf


def win_probability(bid, floor, rivals, shift=0.0):
    return best_rival_below(bid, rivals, shift) if bid >= floor and bid > 0 else 0.0


def landscape_price(seed, key, quantiles):
    """The price at the share that the draw falls on; every listed price is as likely."""
    own = chance.at_opportunity(chance.stream(seed, Purpose.COMPETITOR_VALUE), *key)
    return quantiles[math.floor(chance.uniform(own, 0) * len(quantiles))]


def poisson_count(seed, key):
    """The least count whose cumulated Poisson(1) probability exceeds the draw."""
    own = chance.at_opportunity(chance.stream(seed, Purpose.USER), 0, key)
    u = chance.uniform(own, 0)
    total, count = math.exp(-1.0), 0
    while u >= total:
        count += 1
        total += math.exp(-1.0) / math.factorial(count)
    return count


def product_limit(rows):
    """Kaplan and Meier 1958, section 2: rows are (price, is_above, weight)."""
    survival, out = 1.0, []
    for price in sorted({row[0] for row in rows}):
        at_risk = sum(weight for p, _, weight in rows if p >= price)
        died = sum(weight for p, is_above, weight in rows if p == price and not is_above)
        survival *= 1.0 - died / at_risk
        out.append((price, survival))
    return out


def delay_chance_through_ticks(delay, median, sigma, tick, places):
    """Probability, per ms, of a told delay: both instants are told at the ends of their ticks.

    The click happened at one of ``places`` (ms from the start of its tick), each as likely.
    """
    law = stats.lognorm(s=sigma, scale=median)
    found = []
    for place in places:
        # The conversion lies in the tick that ends ``delay`` after the end of the click's.
        low, high = delay - place, delay + tick - place
        found.append(integrate.quad(law.pdf, max(low, 0.0), high, limit=200)[0])
    return sum(found) / len(found) / tick


def wasserstein(a, b):
    """Equal sizes: mean distance of the sorted samples."""
    assert len(a) == len(b)
    return sum(abs(x - y) for x, y in zip(sorted(a), sorted(b), strict=True)) / len(a)
