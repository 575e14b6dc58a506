"""Upper bounds on bids as machine code: what lets a decision skip nearly every line item.

What is bounded is the log of the bid in micros of USD per thousand, b = 1000 T pctr pcvr lift
(1 + mu) / (lambda + mu) x rate. With s the logistic function, log s is concave, so its tangent at
any z0 is above it:

    log s(z) <= log s(z0) + (1 - s(z0)) (z - z0)

For a line item z0 is its logit without a context, and what the context adds to a head's logit is
a shift (its bias) and a dot product u.e <= |u| |e|; so with slope = 1 - s(z0) and reach = slope |e|

    log b <= value + sum over heads of slope x shift + reach x |u|

Line items of an expression resemble one another, so with the centre c of their embeddings, and
u.e <= u.c + |u| |e - c|, one product for the expression makes the bounds of its line items tight;
the product with each line item's own embedding, rounded to a byte a number, makes them tighter.

All of it times the slope of the head's Platt calibration. ``prepare`` computes slopes, reaches and
the model's part of ``value`` for a snapshot, ``refresh`` takes in what policies set
(``LiveArrays``) and makes the maxima over expressions and groups of them. A bound decides who is
looked at, never who wins: that is ``evaluate``, which reads the live arrays itself.

Source of the tangent bound: log s is concave, Jaakkola and Jordan, "Bayesian parameter estimation
via variational methods", 2000, section 3.
"""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The rules that compare them are off inside;
# callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numba
import numpy as np

from bidder.kernels_bid import currency_index
from bidder.recommendation.kernels import sigmoid
from market.kernel import bare_kernel as kernel
from market.kernels import scale_down, scale_up
from market.money import PRICE_CPM_MICROS_MAX
from market.snapshot import GROUP_SIZE

if TYPE_CHECKING:
    import numpy.typing as npt

    from bidder.work import Bounds, Work
    from market.control import LiveArrays
    from market.snapshot import SnapshotArrays


Record: TypeAlias = Any
"""One record of a structured array (``np.void``): numpy's stubs take its fields for arrays."""

_PRICE_MAX = np.int64(PRICE_CPM_MICROS_MAX)
_NEVER = -np.inf


@kernel
def log_sigmoid(logit: float) -> float:
    """Returns log(1 / (1 + exp(-logit))) without overflow at either end."""
    if logit >= 0.0:
        return -np.log1p(np.exp(-logit))
    return logit - np.log1p(np.exp(logit))


@kernel
def usd_factor(arrays: SnapshotArrays, account: int) -> float:
    """Returns the highest value in USD of one unit of an account's currency, over bid currencies.

    A bid is converted to its own currency and ranked in USD by rates that are rounded to a
    millionth each, so the way over another currency can be worth a little more.
    """
    highest = 0.0
    for bid in range(arrays.currencies.shape[0]):
        rate = arrays.rates_micros[account, bid]
        if rate > 0:
            highest = max(highest, arrays.rates_micros[0, bid] / np.float64(rate))
    return highest


@kernel
def ceiling_rank(arrays: SnapshotArrays, account: int, bid_cpm_micros_max: int) -> int:
    """Returns the highest rank (bid in USD micros) that a line item's ceiling leaves it."""
    highest = np.int64(0)
    for bid in range(arrays.currencies.shape[0]):
        rate = arrays.rates_micros[account, bid]
        if rate > 0:
            price = min(np.int64(scale_down(bid_cpm_micros_max, rate)), _PRICE_MAX)
            highest = max(highest, np.int64(scale_up(price, arrays.rates_micros[0, bid])))
    return highest


@kernel
def prepare(arrays: SnapshotArrays, bounds: Bounds) -> None:
    """Fills what of ``bounds`` depends on the snapshot alone; ``refresh`` must follow."""
    near = 0
    for i in range(bounds.items.shape[0]):
        item = bounds.items[i]
        row = arrays.expression_rows[i]
        _prepare_item(arrays, arrays.line_items[row], item)
        for head in range(2):
            bounds.reaches[i, head] = item["reach"][head]
        item["row"] = row
        item["near_first"] = near
        item["near_count"] = arrays.line_items[row]["creative_count"]
        first = arrays.line_items[row]["creative_first"]
        for c in range(first, first + item["near_count"]):
            for head in range(2):
                _round_embedding(
                    arrays.ad_vectors[c], head, arrays.calibration[head, 0], bounds.near[near],
                    bounds.near_terms[near, head],
                )  # fmt: skip
            near += 1
    for head in range(2):
        _find_ranges(bounds, head)
    for x in range(bounds.expressions.shape[0]):
        _prepare_centre(arrays, bounds, x)


@kernel
def _find_ranges(bounds: Bounds, head: int) -> None:
    """Fills bounds.ranges[head] over the line items that can bid; zeros if none can."""
    ranges = bounds.ranges[head]
    ranges[0] = ranges[2] = np.inf
    ranges[1] = ranges[3] = 0.0
    for i in range(bounds.items.shape[0]):
        if bounds.items[i]["model"] > _NEVER:
            slope = np.float64(bounds.items[i]["slope"][head])
            reach = np.float64(bounds.reaches[i, head])
            ranges[0], ranges[1] = min(ranges[0], slope), max(ranges[1], slope)
            ranges[2], ranges[3] = min(ranges[2], reach), max(ranges[3], reach)
    if ranges[0] == np.inf:
        ranges[0] = ranges[2] = 0.0


@kernel
def _prepare_centre(arrays: SnapshotArrays, bounds: Bounds, x: int) -> None:
    """Fills the centre of expression ``x`` and, from it, the reach of its line items."""
    width = arrays.ad_vectors.shape[1] // 2
    first, end = arrays.expression_first[x], arrays.expression_first[x + 1]
    centre = bounds.centres[x]
    for head in range(2):
        largest = 0.0
        for k in range(head * width, (head + 1) * width):
            largest = max(largest, abs(_mean(arrays, bounds, first, end, k)))
        scale = np.float32(largest / 127.0)
        bounds.centre_scales[x, head] = scale
        for k in range(head * width, (head + 1) * width):
            centre[k] = np.int8(0)
            if scale > 0.0:
                mean = _mean(arrays, bounds, first, end, k)
                centre[k] = np.int8(max(-127.0, min(127.0, np.rint(mean / np.float64(scale)))))
        for i in range(first, end):
            line_item = arrays.line_items[bounds.items[i]["row"]]
            farthest = 0.0
            for n in range(line_item["creative_count"]):
                vector = arrays.ad_vectors[line_item["creative_first"] + n]
                square = 0.0
                for k in range(head * width, (head + 1) * width):
                    at = np.float64(centre[k]) * np.float64(scale)
                    square += (np.float64(vector[k]) - at) ** 2
                farthest = max(farthest, square)
            bounds.items[i]["reach"][head] = (
                bounds.items[i]["slope"][head]
                * abs(arrays.calibration[head, 0])
                * np.sqrt(farthest)
                * (1.0 + 1e-5)
            )


@kernel
def _mean(arrays: SnapshotArrays, bounds: Bounds, first: int, end: int, column: int) -> float:
    """Returns the mean of one column over the creatives of line items [first, end)."""
    total = 0.0
    count = 0
    for i in range(first, end):
        line_item = arrays.line_items[bounds.items[i]["row"]]
        begin = line_item["creative_first"]
        for c in range(begin, begin + line_item["creative_count"]):
            total += np.float64(arrays.ad_vectors[c, column])
            count += 1
    return total / max(count, 1)


@kernel
def _round_embedding(
    vector: npt.NDArray[np.float32],
    head: int,
    platt: float,
    rounded: npt.NDArray[np.int8],
    terms: npt.NDArray[np.float32],
) -> None:
    """Fills one head of rounded[2E] and terms[2] = scale and distance, see ``Bounds.near``."""
    width = vector.shape[0] // 2
    largest = 0.0
    for k in range(head * width, (head + 1) * width):
        largest = max(largest, abs(np.float64(vector[k])))
    scale = np.float32(largest / 127.0)
    square = 0.0
    for k in range(head * width, (head + 1) * width):
        whole = 0.0
        if scale > 0.0:
            whole = max(-127.0, min(127.0, np.rint(np.float64(vector[k]) / np.float64(scale))))
        rounded[k] = np.int8(whole)
        square += (np.float64(vector[k]) - whole * np.float64(scale)) ** 2
    terms[0] = scale
    terms[1] = abs(platt) * np.sqrt(square) * (1.0 + 1e-5)


@kernel
def _prepare_item(arrays: SnapshotArrays, line_item: Record, item: Record) -> None:
    first, count = line_item["creative_first"], line_item["creative_count"]
    item["line_item_id"] = line_item["line_item_id"]
    item["ceiling"] = 0
    item["model"] = _NEVER
    account = currency_index(arrays.currencies, line_item["account_currency"])
    if account < 0 or count == 0:
        return
    item["ceiling"] = ceiling_rank(arrays, account, line_item["bid_cpm_micros_max"])
    lift = 0.0
    for c in range(first, first + count):
        creative = arrays.creatives[c]
        lift = max(lift, creative["lift_shape"] / creative["lift_rate"])
    model = np.log(1000.0 * np.float64(line_item["conversion_micros"]))
    model += np.log(lift) + np.log(usd_factor(arrays, account))
    width = arrays.ad_vectors.shape[1] // 2
    for head in range(2):
        platt = arrays.calibration[head, 0]
        logit = -np.inf
        square = 0.0
        for c in range(first, first + count):
            logit = max(logit, platt * np.float64(arrays.ad_bias[c, head]))
            own = 0.0
            for k in range(head * width, (head + 1) * width):
                own += np.float64(arrays.ad_vectors[c, k]) ** 2
            square = max(square, own)
        logit += arrays.calibration[head, 1]
        model += log_sigmoid(logit)
        item["slope"][head] = 1.0 - sigmoid(logit)
        item["reach"][head] = item["slope"][head] * abs(platt) * np.sqrt(square)
    item["model"] = model


@kernel
def fill_worths(
    arrays: SnapshotArrays,
    typical: npt.NDArray[np.float64],
    scratch: npt.NDArray[np.void],
    out: npt.NDArray[np.float64],
) -> None:
    """Fills out[L] with the log of what a line item could bid whatever policies set; -inf: never.

    Needs nothing of the index: it is what the index is ordered by. typical: as in ``Bounds``;
    scratch: [1] of ITEM_BOUND_DTYPE.
    """
    for row in range(out.shape[0]):
        item = scratch[0]
        out[row] = _NEVER
        if arrays.line_items[row]["is_used"]:
            _prepare_item(arrays, arrays.line_items[row], item)
            if item["ceiling"] > 0:
                out[row] = min(
                    item["model"]
                    + np.float64(item["reach"][0]) * typical[0, 1]
                    + np.float64(item["reach"][1]) * typical[1, 1],
                    np.log(np.float64(item["ceiling"])),
                )


@kernel
def refresh(arrays: SnapshotArrays, live: LiveArrays, bounds: Bounds) -> None:
    """Takes what policies set into ``bounds``, and the contexts that were met as the typical one.

    Must be called after every change of the live arrays: until then a line item whose bid was
    raised or that was switched on may not be found (one that was switched off never wins).
    """
    if bounds.traffic[0] > 0.0:
        for head in range(2):
            bounds.typical[head, 0] = bounds.traffic[1 + head] / bounds.traffic[0]
            bounds.typical[head, 1] = bounds.traffic[3 + head] / bounds.traffic[0]
    for group in range(bounds.group_ceilings.shape[0]):
        bounds.group_values[0, group] = bounds.group_values[1, group] = _NEVER
        bounds.group_ceilings[group] = 0
    for x in range(bounds.expressions.shape[0]):
        _refresh_expression(
            arrays.expression_first[x], arrays.expression_first[x + 1], live, bounds,
            bounds.expressions[x],
        )  # fmt: skip
        group = x // GROUP_SIZE
        for kind in range(2):
            bounds.group_values[kind, group] = max(
                bounds.group_values[kind, group],
                np.float64(bounds.expressions[x]["value"][kind]),
            )
        bounds.group_ceilings[group] = max(
            bounds.group_ceilings[group], bounds.expressions[x]["ceiling"]
        )
    for kind in range(2):
        _sort_groups(bounds.group_values[kind], bounds.group_order[kind])


@kernel
def _refresh_expression(
    first: int, end: int, live: LiveArrays, bounds: Bounds, expression: Record
) -> None:
    highest = _NEVER
    highest_open = _NEVER
    ceiling = np.int64(0)
    for i in range(first, end):
        item = bounds.items[i]
        row = item["row"]
        value, value_open = _NEVER, _NEVER
        if live.is_active[row] and item["model"] > _NEVER:
            mu = live.ratio_mu[row]
            value_open = item["model"] + np.log((1.0 + mu) / (live.pacing_lambda[row] + mu))
            shading = np.log(live.shading_factor[row])
            value = value_open + shading
            value_open += max(shading, 0.0)
            # No log of a negative number: what nobody should set is looked at, not skipped.
            value = np.inf if np.isnan(value) else value
            value_open = np.inf if np.isnan(value_open) else value_open
            typical = 0.0
            for head in range(2):
                typical += np.float64(item["slope"][head]) * bounds.typical[head, 0]
                typical += np.float64(bounds.reaches[i, head]) * bounds.typical[head, 1]
            highest = max(highest, value + typical)
            highest_open = max(highest_open, value_open + typical)
            ceiling = max(ceiling, item["ceiling"])
        item["value"][0] = value
        item["value"][1] = value_open
    expression["value"][0] = highest
    expression["value"][1] = highest_open
    expression["ceiling"] = ceiling


@kernel
def _sort_groups(values: npt.NDArray[np.float64], order: npt.NDArray[np.int64]) -> None:
    """Fills order[G] with the groups by falling values[G]: insertion, since few change places."""
    for n in range(order.shape[0]):
        at = n
        while at > 0 and values[order[at - 1]] < values[n]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = n


@kernel
def take_context(arrays: SnapshotArrays, work: Work) -> None:
    """Fills work.context and work.pull from ``context_side``, and counts it as met."""
    width = work.vector.shape[0] // 2
    traffic = work.bounds.traffic
    traffic[0] += 1.0
    for head in range(2):
        platt = arrays.calibration[head, 0]
        square = 0.0
        for k in range(head * width, (head + 1) * width):
            square += work.vector[k] ** 2
            work.pull[k] = platt * work.vector[k]
        work.context[2 * head] = platt * work.bias[head]
        work.context[2 * head + 1] = np.sqrt(square)
        traffic[1 + head] += work.context[2 * head]
        traffic[3 + head] += work.context[2 * head + 1]


@kernel
def context_excess(work: Work) -> float:
    """Returns by how much at most any expression's bound is above its typical one here."""
    excess = 0.0
    for head in range(2):
        for part in range(2):
            more = work.context[2 * head + part] - work.bounds.typical[head, part]
            steepest = work.bounds.ranges[head, 2 * part + (1 if more > 0.0 else 0)]
            excess += more * steepest
    return excess


@kernel
def centre_logits(work: Work, x: int) -> tuple[float, float]:
    """Returns by head what the centre of expression ``x`` adds to a logit in this context."""
    width = work.pull.shape[0] // 2
    centre, scales = work.bounds.centres[x], work.bounds.centre_scales[x]
    return (
        np.float64(scales[0] * _dot(work.pull[:width], centre[:width])),
        np.float64(scales[1] * _dot(work.pull[width:], centre[width:])),
    )


@kernel
def spread(item: Record, context: npt.NDArray[np.float64]) -> float:
    """Returns how much of ``item_bound`` comes from not knowing more than the centre."""
    return np.float64(item["reach"][0]) * context[1] + np.float64(item["reach"][1]) * context[3]


@kernel
def item_bound(
    item: Record, kind: int, context: npt.NDArray[np.float64], click: float, conversion: float
) -> float:
    """Returns the bound of one line item in this context; click, conversion: ``centre_logits``."""
    return (
        item["value"][kind]
        + np.float64(item["slope"][0]) * (context[0] + click)
        + np.float64(item["slope"][1]) * (context[2] + conversion)
        + spread(item, context)
    )


@kernel
def near_bound(item: Record, kind: int, work: Work) -> float:
    """Returns the bound of one line item with the dot products of its creatives in place of norms.

    Of the rounded embeddings; what rounding may hide is added. Bounds the highest of the creatives.
    """
    context, pull, bounds = work.context, work.pull, work.bounds
    width = pull.shape[0] // 2
    slope, conversion_slope = np.float64(item["slope"][0]), np.float64(item["slope"][1])
    highest = -np.inf
    for n in range(item["near_first"], item["near_first"] + item["near_count"]):
        rounded, terms = bounds.near[n], bounds.near_terms[n]
        click = terms[0, 0] * _dot(pull[:width], rounded[:width])
        conversion = terms[1, 0] * _dot(pull[width:], rounded[width:])
        highest = max(
            highest,
            slope * (click + terms[0, 1] * context[1])
            + conversion_slope * (conversion + terms[1, 1] * context[3]),
        )
    return item["value"][kind] + slope * context[0] + conversion_slope * context[2] + highest


# A bound may be summed in any order (its margin is a thousand times the rounding), and then the
# compiler makes vector instructions of it: a fifth of the time. Nothing that is a bid is.
@numba.njit(  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator] as in market.kernel
    nogil=True, error_model="numpy", boundscheck=False, fastmath={"reassoc", "contract"}, _nrt=False
)
def _dot(one: npt.NDArray[np.float32], other: npt.NDArray[np.int8]) -> float:
    """Returns the dot product."""
    total = np.float32(0.0)
    for k in range(one.shape[0]):
        total += one[k] * np.float32(other[k])
    return total
