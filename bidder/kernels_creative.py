"""Creatives as machine code: which can be shown in an imp, and which of them is chosen."""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The rules that compare them are off inside;
# callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bidder.kernels_cap import cap_obstacle
from bidder.recommendation.kernels import pair_probabilities
from market.chance import Purpose
from market.decision import NoBidReason
from market.kernel import bare_kernel as kernel
from market.kernels import at_opportunity, mix, normal, stream
from market.opportunity import Format

if TYPE_CHECKING:
    import numpy.typing as npt

    from market.snapshot import SnapshotArrays


Record: TypeAlias = Any
"""One record of a structured array (``np.void``): numpy's stubs take its fields for arrays."""

_U0 = np.uint64(0)
_U1 = np.uint64(1)
_CREATIVE_CHOICE = int(Purpose.CREATIVE_CHOICE)
_PROPENSITY = int(Purpose.PROPENSITY)
_BANNER = int(Format.BANNER)

R_FORMAT = int(NoBidReason.FORMAT_NOT_SERVED)
R_SIZE = int(NoBidReason.SIZE_NOT_OFFERED)
R_DURATION = int(NoBidReason.DURATION_NOT_ACCEPTED)
R_PROTOCOL = int(NoBidReason.PROTOCOL_NOT_ACCEPTED)
R_MEDIA = int(NoBidReason.MEDIA_TYPE_NOT_ACCEPTED)
R_ATTRIBUTE = int(NoBidReason.ATTRIBUTE_BLOCKED)
R_SECURE = int(NoBidReason.NOT_SECURE)


@kernel
def creative_obstacle(  # noqa: PLR0911 - one check after the other
    opportunity: Record, creative: Record
) -> int:
    """Returns why this creative cannot be shown in this imp (a NoBidReason), 0 if it can."""
    if (creative["format"] & opportunity["formats"]) == 0:
        return R_FORMAT
    # Video scales to its player and audio has no size: only a banner must fit exactly.
    if creative["format"] == _BANNER and opportunity["size_count"] > 0:
        is_offered = False
        for k in range(opportunity["size_count"]):
            is_offered = is_offered or opportunity["sizes"][k] == creative["size"]
        if not is_offered:
            return R_SIZE
    if creative["duration_ms"] > 0 and (
        creative["duration_ms"] < opportunity["duration_ms_min"]
        or (
            opportunity["duration_ms_max"] > 0
            and creative["duration_ms"] > opportunity["duration_ms_max"]
        )
    ):
        return R_DURATION
    protocol = (opportunity["protocols"] >> np.uint64(creative["protocol"])) & _U1
    if opportunity["protocols"] != _U0 and creative["protocol"] > 0 and protocol == _U0:
        return R_PROTOCOL
    if (
        opportunity["media_types"] != _U0
        and (opportunity["media_types"] & creative["media_type"]) == _U0
    ):
        return R_MEDIA
    if (opportunity["attributes_blocked"] & creative["attributes"]) != _U0:
        return R_ATTRIBUTE
    if opportunity["is_secure"] and not creative["is_secure"]:
        return R_SECURE
    return 0


@kernel
def creatives_obstacle(opportunity: Record, arrays: SnapshotArrays, line_item: Record) -> int:
    """Returns the furthest obstacle to showing any creative of the line item, 0 if one can."""
    furthest = 0
    first = line_item["creative_first"]
    for c in range(first, first + line_item["creative_count"]):
        reason = creative_obstacle(opportunity, arrays.creatives[c])
        if reason == 0:
            return 0
        furthest = max(furthest, reason)
    return furthest


@kernel
def lift_draw(key: np.uint64, actor: int, shape: float, rate: float) -> float:
    """Returns a gamma(shape, rate) draw from one normal, for Thompson sampling of a click lift.

    Source: Wilson and Hilferty, 1931: the cube root of a gamma variable is nearly normal with mean
    1 - 1/(9 shape) and variance 1/(9 shape), times the cube root of the mean.
    """
    spread = 1.0 / (9.0 * shape)
    root = 1.0 - spread + np.sqrt(spread) * normal(key, actor)
    return shape / rate * max(root, 0.0) ** 3


@kernel
def choose_creative(
    opportunity: Record,
    arrays: SnapshotArrays,
    slots: npt.NDArray[np.void],
    worker: int,
    line_item: Record,
    vector: npt.NDArray[np.float64],
    bias: npt.NDArray[np.float64],
    seed: int,
    chosen: npt.NDArray[np.float64],
) -> tuple[int, int]:
    """Fills chosen[2] = pctr, pcvr, and returns (creative row or -1, furthest NoBidReason).

    Among the creatives that can be shown, the one with the highest pctr * pcvr * lift is chosen,
    where the lift of a creative in cold start is a Thompson draw from its posterior and of another
    its posterior mean. pctr is reported times the mean lift: the draw chooses, it does not price.
    """
    reached = 0
    first = line_item["creative_first"]
    count = line_item["creative_count"]
    key = at_opportunity(
        stream(seed, _CREATIVE_CHOICE), opportunity["key_hi"], opportunity["key_lo"]
    )
    best = np.int64(-1)
    best_worth = -1.0
    for c in range(first, first + count):
        creative = arrays.creatives[c]
        reason = creative_obstacle(opportunity, creative)
        if reason == 0:
            reason = cap_obstacle(opportunity, arrays, slots, worker, line_item, c)
        if reason != 0:
            reached = max(reached, reason)
            continue
        pctr, pcvr = pair_probabilities(
            vector, bias, c, arrays.ad_vectors, arrays.ad_bias, arrays.calibration
        )
        mean = creative["lift_shape"] / creative["lift_rate"]
        lift = mean
        if creative["is_cold"]:
            lift = lift_draw(
                key, creative["creative_id"], creative["lift_shape"], creative["lift_rate"]
            )
        worth = pctr * pcvr * lift
        if worth > best_worth:
            best = np.int64(c)
            best_worth = worth
            chosen[0] = min(pctr * mean, 1.0)
            chosen[1] = pcvr
    return best, reached


@kernel
def choice_propensity(
    opportunity: Record,
    arrays: SnapshotArrays,
    slots: npt.NDArray[np.void],
    worker: int,
    offer: Record,
    vector: npt.NDArray[np.float64],
    bias: npt.NDArray[np.float64],
    seed: int,
    draws: npt.NDArray[np.float64],
) -> float:
    """Returns the share of 32 further keyed draws that choose the creative of ``offer`` again.

    Smoothed to (k + 1/2) / 33; 1 where there was nothing to draw. Only computed for the bid that is
    made. draws: [2, 32] scratch, worth and creative row of the best so far by draw.
    """
    base = at_opportunity(stream(seed, _PROPENSITY), opportunity["key_hi"], opportunity["key_lo"])
    line_item: Record = arrays.line_items[offer["line_item_row"]]
    first = line_item["creative_first"]
    draws[0, :] = -1.0
    shown = 0
    is_drawn = False
    for c in range(first, first + line_item["creative_count"]):
        creative = arrays.creatives[c]
        if creative_obstacle(opportunity, creative) != 0:
            continue
        if cap_obstacle(opportunity, arrays, slots, worker, line_item, c) != 0:
            continue
        shown += 1
        is_drawn = is_drawn or creative["is_cold"] != 0
        pctr, pcvr = pair_probabilities(
            vector, bias, c, arrays.ad_vectors, arrays.ad_bias, arrays.calibration
        )
        lift = creative["lift_shape"] / creative["lift_rate"]
        for draw in range(draws.shape[1]):
            if creative["is_cold"]:
                key = mix(base + np.uint64(draw))
                lift = lift_draw(
                    key, creative["creative_id"], creative["lift_shape"], creative["lift_rate"]
                )
            worth = pctr * pcvr * lift
            if worth > draws[0, draw]:
                draws[0, draw] = worth
                draws[1, draw] = c
    if shown < 2 or not is_drawn:
        return 1.0
    hits = 0
    for draw in range(draws.shape[1]):
        hits += np.int64(draws[1, draw]) == offer["creative_row"]
    return (hits + 0.5) / (draws.shape[1] + 1.0)
