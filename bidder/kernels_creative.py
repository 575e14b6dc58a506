"""Creatives as machine code: which can be shown in an imp, and which of them is chosen."""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The rules that compare them are off inside;
# callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bidder.kernels_bundle import Kind, opened
from bidder.kernels_cap import cap_obstacle
from bidder.recommendation.kernels import pair_probabilities
from market.chance import Purpose
from market.creative import ATTRIBUTE_SKIPPABLE
from market.decision import REASON_RANKS, NoBidReason
from market.kernel import bare_kernel as kernel
from market.kernels import at_opportunity, mix, normal, stream
from market.opportunity import DURATION_COUNT_MAX, Format

if TYPE_CHECKING:
    import numpy.typing as npt


Record: TypeAlias = Any
"""One record of a structured array (``np.void``): numpy's stubs take its fields for arrays."""

_U0 = np.uint64(0)
_U1 = np.uint64(1)
_CREATIVE_CHOICE = int(Purpose.CREATIVE_CHOICE)
_PROPENSITY = int(Purpose.PROPENSITY)
_BANNER, _VIDEO, _AUDIO, _NATIVE = (int(f) for f in Format)
_SKIPPABLE = ATTRIBUTE_SKIPPABLE

_RANKS = REASON_RANKS
R_FORMAT = int(NoBidReason.FORMAT_NOT_SERVED)
R_SIZE = int(NoBidReason.SIZE_NOT_OFFERED)
R_DURATION = int(NoBidReason.DURATION_NOT_ACCEPTED)
R_PROTOCOL = int(NoBidReason.PROTOCOL_NOT_ACCEPTED)
R_MEDIA = int(NoBidReason.MEDIA_TYPE_NOT_ACCEPTED)
R_ATTRIBUTE = int(NoBidReason.ATTRIBUTE_BLOCKED)
R_SECURE = int(NoBidReason.NOT_SECURE)
R_API = int(NoBidReason.API_NOT_SUPPORTED)
R_BANNER_TYPE = int(NoBidReason.BANNER_TYPE_BLOCKED)
R_EXPANSION = int(NoBidReason.EXPANSION_NOT_ALLOWED)
R_LINEARITY = int(NoBidReason.LINEARITY_NOT_ACCEPTED)
R_DELIVERY = int(NoBidReason.DELIVERY_NOT_ACCEPTED)
R_SKIP = int(NoBidReason.SKIP_NOT_ACCEPTED)
R_ASSET = int(NoBidReason.NATIVE_ASSET_MISSING)
R_LANGUAGE = int(NoBidReason.LANGUAGE_NOT_ALLOWED)


@kernel
def creative_obstacle(opportunity: Record, creative: Record) -> int:
    """Returns why this creative cannot be shown in this imp (a NoBidReason), 0 if it can.

    Each format is judged by its own columns: what a banner may not be says nothing of a video.
    """
    if (creative["format"] & opportunity["formats"]) == 0:
        return R_FORMAT
    reason = 0
    if creative["format"] == _BANNER:
        which = 0
        reason = banner_obstacle(opportunity, creative)
    elif creative["format"] == _NATIVE:
        which = 3
        reason = native_obstacle(opportunity, creative)
    else:
        which = 2
        if creative["format"] == _VIDEO:
            which = 1
            reason = player_obstacle(opportunity, creative)
        if reason == 0:
            reason = timed_obstacle(opportunity, creative, which - 1)
    if reason != 0:
        return reason
    return behaviour_obstacle(opportunity, creative, which)


@kernel
def behaviour_obstacle(  # noqa: PLR0911 - one check after the other
    opportunity: Record, creative: Record, which: int
) -> int:
    """Returns the obstacle in what the creative does and needs, whatever it is; format 0-3."""
    if (opportunity["attributes_blocked"][which] & creative["attributes"]) != _U0:
        return R_ATTRIBUTE
    if which == 1 and not is_skip_accepted(opportunity, creative):
        return R_SKIP
    if which == 0 and (creative["expand_directions"] & ~opportunity["expand_directions"]) != 0:
        return R_EXPANSION
    # "If an API is not explicitly listed, it is assumed not to be supported" (2.6 section 3.2.6).
    if (creative["apis"] & ~opportunity["apis"][which]) != _U0:
        return R_API
    if opportunity["is_secure"] and not creative["is_secure"]:
        return R_SECURE
    if opportunity["languages"][0] != _U0 and not is_language_allowed(opportunity, creative):
        return R_LANGUAGE
    return 0


@kernel
def banner_obstacle(opportunity: Record, creative: Record) -> int:
    """Returns the obstacle among the rules of ``imp.banner``, 0 if there is none."""
    if not is_size_offered(opportunity, creative["size"]) and (
        banner_ratio(opportunity, creative["size"]) == 0
    ):
        return R_SIZE
    if (opportunity["banner_types_blocked"] >> creative["banner_type"]) & 1:
        return R_BANNER_TYPE
    types = opportunity["media_types"][0]
    if types != _U0 and (types & creative["media_type"]) == _U0:
        return R_MEDIA
    return 0


@kernel
def is_size_offered(opportunity: Record, size: int) -> bool:
    """Returns whether the exact size is among those offered, or no size is asked for at all."""
    if opportunity["size_count"] == 0:
        return opportunity["ratios"][0] == 0
    is_offered = False
    for k in range(opportunity["size_count"]):
        is_offered = is_offered or opportunity["sizes"][k] == size
    return is_offered


@kernel
def banner_ratio(opportunity: Record, size: int) -> int:
    """Returns the flexible size (w << 16 | h) that a banner of ``size`` fills, 0 if none.

    Source: 2.6 section 3.2.10: ``wratio`` to ``hratio`` at no less than ``wmin`` pixels.
    """
    width = np.int64(size) >> 16
    height = np.int64(size) & 0xFFFF
    for k in range(opportunity["ratios"].shape[0]):
        ratio = np.int64(opportunity["ratios"][k])
        if ratio == 0:
            break
        is_shape = width * (ratio & 0xFFFF) == height * (ratio >> 16)
        if is_shape and width >= opportunity["ratio_widths_min"][k]:
            return ratio
    return np.int64(0)


@kernel
def timed_obstacle(opportunity: Record, creative: Record, played: int) -> int:  # noqa: PLR0911
    """Returns the obstacle among the rules for what is played: 0 video, 1 audio, 2 native's video.

    Source: 2.6 sections 3.2.7 and 3.2.8.
    """
    if not is_duration_accepted(opportunity, creative["duration_ms"], played):
        return R_DURATION
    if rendition(opportunity, creative, played) < 0:
        return R_PROTOCOL
    types = opportunity["media_types"][played + 1]
    if types != _U0 and (types & creative["media_type"]) == _U0:
        return R_MEDIA
    deliveries = opportunity["deliveries"][played]
    if deliveries != 0 and (deliveries >> creative["delivery"]) & 1 == 0:
        return R_DELIVERY
    lowest = opportunity["bitrate_kbps_min"][played]
    highest = opportunity["bitrate_kbps_max"][played]
    if lowest == 0 and highest == 0:
        return 0
    bitrate = creative["bitrate_kbps"]
    if bitrate == 0 or bitrate < lowest or (highest > 0 and bitrate > highest):
        return R_DELIVERY
    return 0


@kernel
def is_duration_accepted(opportunity: Record, duration_ms: int, played: int) -> bool:
    """Returns whether a length is one of those required, or within the accepted range."""
    first = played * DURATION_COUNT_MAX
    if opportunity["durations_ms"][first] != 0:
        is_listed = False
        for k in range(first, first + DURATION_COUNT_MAX):
            is_listed = is_listed or opportunity["durations_ms"][k] == duration_ms
        return is_listed and duration_ms > 0
    highest = opportunity["duration_ms_max"][played]
    return opportunity["duration_ms_min"][played] <= duration_ms and (
        highest == 0 or duration_ms <= highest
    )


@kernel
def rendition(opportunity: Record, creative: Record, played: int) -> int:
    """Returns the place of the best rendition that the player understands, -1 if none.

    A player that names no protocols gets the one that the advertiser declared.
    """
    accepted = opportunity["protocols"][played]
    for k in range(creative["protocols"].shape[0]):
        protocol = creative["protocols"][k]
        if protocol == 0:
            break
        if accepted == _U0:
            if protocol == creative["protocol"]:
                return np.int64(k)
        elif (accepted >> np.uint64(protocol)) & _U1 != _U0:
            return np.int64(k)
    return np.int64(0) if accepted == _U0 or creative["protocols"][0] == 0 else np.int64(-1)


@kernel
def player_obstacle(opportunity: Record, creative: Record) -> int:
    """Returns the obstacle among the rules that only ``imp.video`` has, 0 if there is none."""
    if opportunity["player_size"] != 0 and not is_same_shape(
        opportunity["player_size"], creative["size"]
    ):
        return R_SIZE
    if opportunity["linearity"] != 0 and opportunity["linearity"] != creative["linearity"]:
        return R_LINEARITY
    return 0


@kernel
def is_skip_accepted(opportunity: Record, creative: Record) -> bool:
    """Returns whether the creative's own skip button is as late as ``skipmin``, ``skipafter``."""
    if (creative["attributes"] >> np.uint64(_SKIPPABLE)) & _U1 == _U0:
        return True
    shortest = opportunity["skippable_ms_min"]
    return (shortest == 0 or creative["duration_ms"] > shortest) and (
        creative["skip_after_ms"] >= opportunity["skip_after_ms_min"]
    )


@kernel
def is_same_shape(one: int, other: int) -> bool:
    """Returns whether two sizes have the same shape but for 1 %, the rounding of pixels."""
    a = (np.int64(one) >> 16) * (np.int64(other) & 0xFFFF)
    b = (np.int64(other) >> 16) * (np.int64(one) & 0xFFFF)
    return abs(a - b) * 100 <= a


@kernel
def native_obstacle(opportunity: Record, creative: Record) -> int:
    """Returns the obstacle among the assets that the native request requires, 0 if there is none.

    Source: OpenRTB Dynamic Native Ads API 1.2, 4.2 to 4.6.
    """
    if opportunity["native_needs_video"]:
        if creative["duration_ms"] == 0 or creative["protocols"][0] == 0:
            return R_ASSET
        reason = timed_obstacle(opportunity, creative, 2)
        if reason != 0:
            return reason
    if not has_chars(creative["title_chars"], opportunity["native_title_chars"]):
        return R_ASSET
    for k in range(opportunity["native_data_chars"].shape[0]):
        if not has_chars(creative["data_chars"][k], opportunity["native_data_chars"][k]):
            return R_ASSET
    for k in range(creative["image_sizes"].shape[0]):
        is_required = (opportunity["native_images_required"] >> k) & 1
        if is_required and not is_image_accepted(
            opportunity, k, creative["image_sizes"][k], creative["image_types"][k]
        ):
            return R_ASSET
    return 0


@kernel
def has_chars(chars: int, most: int) -> bool:
    """Returns whether a text of ``chars`` characters is what ``most`` requires; 0 = nothing."""
    return most == 0 or 0 < chars <= most


@kernel
def is_image_accepted(opportunity: Record, which: int, size: int, types: np.uint64) -> bool:
    """Returns whether an image has an accepted size and media type; size 0 = there is none."""
    width = np.int64(size) >> 16
    height = np.int64(size) & 0xFFFF
    accepted = opportunity["native_image_types"][which]
    return (
        width > 0
        and opportunity["native_width_min"][which] <= width
        and width <= opportunity["native_width_max"][which]
        and opportunity["native_height_min"][which] <= height
        and height <= opportunity["native_height_max"][which]
        and (accepted == _U0 or (accepted & types) != _U0)
    )


@kernel
def show(opportunity: Record, creative: Record, offer: Record) -> None:
    """Writes into ``offer`` how the chosen creative is shown: its rendition and flexible size."""
    played = 2
    if creative["format"] == _VIDEO:
        played = 0
    elif creative["format"] == _AUDIO:
        played = 1
    place = rendition(opportunity, creative, played)
    offer["rendition_row"] = creative["rendition_first"] + max(place, 0)
    offer["ratio"] = 0
    is_flexible = opportunity["ratios"][0] != 0 and creative["format"] == _BANNER
    if is_flexible and not is_size_offered(opportunity, creative["size"]):
        offer["ratio"] = banner_ratio(opportunity, creative["size"])


@kernel
def is_language_allowed(opportunity: Record, creative: Record) -> bool:
    """Returns whether the creative is in a language of the list; without a language it is not."""
    is_allowed = False
    for k in range(opportunity["languages"].shape[0]):
        code = opportunity["languages"][k]
        is_allowed = is_allowed or (code != _U0 and code == creative["language_code"])
    return is_allowed


@kernel
def creatives_obstacle(
    opportunity: Record, creatives: npt.NDArray[np.void], line_item: Record
) -> int:
    """Returns the furthest obstacle to showing any creative of the line item, 0 if one can."""
    furthest = 0
    first = line_item["creative_first"]
    for c in range(first, first + line_item["creative_count"]):
        reason = creative_obstacle(opportunity, creatives[c])
        if reason == 0:
            return 0
        if _RANKS[reason] > _RANKS[furthest]:
            furthest = reason
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
    address: int, kind: Kind, opportunity: Record, line_item: Record, worker: int, seed: int
) -> tuple[int, int]:
    """Fills work.chosen[2] = pctr, pcvr, and returns (creative row or -1, furthest NoBidReason).

    Among the creatives that can be shown, the one with the highest pctr * pcvr * lift is chosen,
    where the lift of a creative in cold start is a Thompson draw from its posterior and of another
    its posterior mean. pctr is reported times the mean lift: the draw chooses, it does not price.
    """
    arrays, _, state, work, _ = opened(address, kind)
    chosen = work.chosen
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
            reason = cap_obstacle(opportunity, arrays.caps, state.cap_slots, worker, line_item, c)
        if reason != 0:
            if _RANKS[reason] > _RANKS[reached]:
                reached = reason
            continue
        pctr, pcvr = pair_probabilities(
            work.vector, work.bias, c, arrays.ad_vectors, arrays.ad_bias, arrays.calibration
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
    address: int, kind: Kind, opportunity: Record, worker: int, offer: Record, seed: int
) -> float:
    """Returns the share of 32 further keyed draws that choose the creative of ``offer`` again.

    Smoothed to (k + 1/2) / 33; 1 where there was nothing to draw. Only computed for the bid that is
    made. work.draws: [2, 32] scratch, worth and creative row of the best so far by draw.
    """
    arrays, _, state, work, _ = opened(address, kind)
    draws = work.draws
    line_item: Record = arrays.line_items[offer["line_item_row"]]
    first = line_item["creative_first"]
    last = first + line_item["creative_count"]
    shown = 0
    is_drawn = False
    for c in range(first, last):
        creative = arrays.creatives[c]
        if (
            creative_obstacle(opportunity, creative) == 0
            and cap_obstacle(opportunity, arrays.caps, state.cap_slots, worker, line_item, c) == 0
        ):
            shown += 1
            is_drawn = is_drawn or creative["is_cold"] != 0
    if shown < 2 or not is_drawn:
        return 1.0
    base = at_opportunity(stream(seed, _PROPENSITY), opportunity["key_hi"], opportunity["key_lo"])
    draws[0, :] = -1.0
    for c in range(first, last):
        creative = arrays.creatives[c]
        if (
            creative_obstacle(opportunity, creative) != 0
            or cap_obstacle(opportunity, arrays.caps, state.cap_slots, worker, line_item, c) != 0
        ):
            continue
        pctr, pcvr = pair_probabilities(
            work.vector, work.bias, c, arrays.ad_vectors, arrays.ad_bias, arrays.calibration
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
    hits = 0
    for draw in range(draws.shape[1]):
        hits += np.int64(draws[1, draw]) == offer["creative_row"]
    return (hits + 0.5) / (draws.shape[1] + 1.0)
