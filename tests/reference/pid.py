"""The PID bid policy as its formulas say, in one obvious loop over a day's ticks.

Written from the notes on bid policies ("PID, min-pacing": pace = .125 + 6 e + .1 sum(e), limit
starting at .125 with gain .1 in [-2, 1.5]) and the formulas at the head of the policy's file, which
bound log alpha by [-3, 1], weigh ticks, and correct the expected conversions.
"""

from __future__ import annotations

import math
from fractions import Fraction


def alphas(plan, day):
    """The multiplier of each tick of ``day``: a list of Progress."""
    span = plan.end_at_ms - plan.start_at_ms
    weight = min(Fraction(48 * plan.tick_ms, span), 1)
    found, errors, limit = [], [], 0.125
    for tick in day:
        remaining = Fraction(plan.budget_micros - tick.budget_spend_micros, plan.budget_micros)
        time_left = min(Fraction(max(plan.end_at_ms - tick.now_ms, 0), span), 1)
        errors.append(remaining - time_left)
        log_alpha = 0.125 + 6 * errors[-1] + 0.1 * float(weight * sum(errors))
        if plan.has_target:
            seen = (tick.conversions + 20) / (tick.expected_conversions_lagged + 20)
            worth = tick.expected_conversions * seen * plan.conversion_micros
            if worth > 0:
                limit = limit + 0.1 * float(weight) * (1 - tick.spend_micros / worth)
            limit = sorted([-2.0, limit, 1.5])[1]
            log_alpha = min(log_alpha, limit)
        found.append(math.exp(sorted([-3.0, float(log_alpha), 1.0])[1]))
    return found
