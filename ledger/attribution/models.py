"""Models: from paths to credits, conserved to the last micro.

``docs/attribution.md`` has the equations. The two models that learn do so from one advertiser's
paths at a time, the converting ones and the idle ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from ledger.attribution import kernels, kernels_shapley
from ledger.attribution.terms import CREDIT_MICROS, NOBODY, Level, Model
from market.errors import BadInput
from market.kernels import hash_pair

if TYPE_CHECKING:
    from ledger.attribution.paths import Channels, Paths
    from ledger.attribution.terms import Rules

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

MARKOV_CHANNELS_MAX: Final = 4_096
"""Channels of one advertiser in a chain, whose matrix has the square of it."""


class Credits(NamedTuple):
    """Who gets what of each conversion; all [R], rows of a conversion together.

    Attributes:
        conversion: row in ``Paths.conversions``.
        channel: id at the level, or ``NOBODY``.
        credit_micros: sums to ``CREDIT_MICROS`` over a conversion.
        value_micros: sums to the conversion's value.
    """

    conversion: I64
    channel: I64
    credit_micros: I64
    value_micros: I64


def credits_of(paths: Paths, model: Model, level: Level, rules: Rules) -> Credits:
    """Returns the credits of every conversion under one model, at one level.

    Raises:
        BadInput: the level has more channels than the model can hold.
    """
    channels = paths.channels(level)
    channel = channels.of_touch[paths.touch]
    conversion, to, credit, value = kernels.credit_rows(
        paths.first,
        channel,
        _weights(paths, channels, channel, model, rules),
        CREDIT_MICROS,
        paths.conversions.value_micros,
        channels.id.shape[0],
    )
    # One more at the end, for -1 to find.
    return Credits(conversion, np.append(channels.id, NOBODY)[to], credit, value)


def _weights(paths: Paths, channels: Channels, channel: I64, model: Model, rules: Rules) -> F64:
    if not model.learns:
        return kernels.rule_weights(
            int(model), paths.first, paths.touch, paths.at_ms, paths.is_click,
            rules.position_first, rules.position_last, rules.half_life_ms,
        )  # fmt: skip
    is_first = kernels.first_visits(paths.first, channel, channels.id.shape[0])
    idle_channel = channels.of_touch[paths.idle_touch]
    if model is Model.MARKOV:
        effects = removal_effects(channels, paths.first, channel, paths.idle_first, idle_channel)
        return np.where(is_first, effects[channel], 0.0)
    return _shapley_weights(
        channels, paths.first, channel, is_first, paths.idle_first, idle_channel
    )


def removal_effects(
    channels: Channels, first: I64, channel: I64, idle_first: I64, idle_channel: I64
) -> F64:
    """Returns [C] the share of conversions that would be lost without each channel.

    A first-order chain of start, channels, conversion and null, one of each advertiser. With x_c
    the probability to convert from c, h_c the probability ever to reach c from the start, and p the
    probability to convert from the start, all walks through c are lost without it, which is
    h_c x_c; so its effect is h_c x_c / p. x solves (I - Q) x = r; h_c = (s N)_c / N_cc with the
    fundamental matrix N = (I - Q)^-1.

    Args:
        channels: C channels.
        first: [V + 1]; channel: [E]: paths that converted.
        channel: see above.
        idle_first: [P + 1]; idle_channel: paths that did not.
        idle_channel: see above.

    Raises:
        BadInput: an advertiser has more than ``MARKOV_CHANNELS_MAX`` channels.

    Source: Anderl, Becker, von Wangenheim, Schumann, "Mapping the customer journey", International
    Journal of Research in Marketing 33 (2016); Kemeny and Snell, "Finite Markov Chains" (1960), 3.3
    and 3.5.2.
    """
    count = channels.id.shape[0]
    starts, ends, steps = _transitions(first, channel, count)
    idle_starts, idle_ends, idle_steps = _transitions(idle_first, idle_channel, count)
    starts, steps = starts + idle_starts, steps + idle_steps
    effects = np.zeros(count)
    for advertiser in np.unique(channels.advertiser_id):
        mine = slice(*np.searchsorted(channels.advertiser_id, [advertiser, int(advertiser) + 1]))
        size = mine.stop - mine.start
        if size > MARKOV_CHANNELS_MAX:
            raise BadInput(
                f"advertiser {advertiser}: {size} channels in one Markov chain; it holds at most "
                f"{MARKOV_CHANNELS_MAX}: choose a coarser level"
            )
        if ends[mine].any():
            effects[mine] = _effects(
                steps[mine, mine].toarray(), starts[mine], ends[mine], idle_ends[mine]
            )
    return effects


def _effects(steps: F64, starts: F64, converted: F64, idle: F64) -> F64:
    """Returns [c] the removal effects of one advertiser's channels from counted transitions."""
    out = steps.sum(axis=1) + converted + idle
    visited = out > 0
    effects = np.zeros(out.shape[0])
    out, starts = out[visited], starts[visited] / starts.sum()
    chain = np.eye(out.shape[0]) - steps[np.ix_(visited, visited)] / out[:, None]
    fundamental = linalg.inv(chain)
    converts = fundamental @ (converted[visited] / out)
    reached = (starts @ fundamental) / np.diag(fundamental)
    effects[visited] = np.clip(reached * converts / (starts @ converts), 0.0, 1.0)
    return effects


def _transitions(first: I64, channel: I64, count: int) -> tuple[F64, F64, sparse.csr_array]:
    """Returns how many paths start [C] and end [C] at each channel, and the steps [C, C]."""
    held = np.flatnonzero(first[1:] > first[:-1])
    starts = np.bincount(channel[first[held]], minlength=count).astype(np.float64)
    ends = np.bincount(channel[first[held + 1] - 1], minlength=count).astype(np.float64)
    is_last = np.zeros(channel.shape[0], np.bool_)
    is_last[first[held + 1] - 1] = True
    stepping = np.flatnonzero(~is_last)
    steps = sparse.coo_array(
        (np.ones(stepping.shape[0]), (channel[stepping], channel[stepping + 1])), (count, count)
    )
    return starts, ends, steps.tocsr()


def _shapley_weights(
    channels: Channels,
    first: I64,
    channel: I64,
    is_first: npt.NDArray[np.bool_],
    idle_first: I64,
    idle_channel: I64,
) -> F64:
    """Returns [E] the Shapley value of each channel in the game of its path's set of channels."""
    count = channels.id.shape[0]
    keys = np.array([hash_pair(np.uint64(a), np.uint64(i)) for a, i in _named(channels)], np.uint64)
    idle_is_first = kernels.first_visits(idle_first, idle_channel, count)
    key_of = np.concatenate(
        [
            kernels_shapley.set_keys(first, channel, is_first, keys),
            kernels_shapley.set_keys(idle_first, idle_channel, idle_is_first, keys),
        ]
    )
    conversion_count = first.shape[0] - 1
    set_key, example, set_of = np.unique(key_of, return_index=True, return_inverse=True)
    set_of = set_of.astype(np.int64)
    path_count = np.bincount(set_of)
    converted = np.bincount(set_of[:conversion_count], minlength=set_key.shape[0])
    member_first, member = kernels_shapley.set_members(
        example, np.concatenate([first, first[-1] + idle_first[1:]]),
        np.concatenate([channel, idle_channel]), np.concatenate([is_first, idle_is_first]),
    )  # fmt: skip
    phi = kernels_shapley.shapley_values(
        member_first, member, set_key, converted / path_count, converted > 0, keys
    )
    return kernels_shapley.set_weights(
        first, channel, is_first, set_of[:conversion_count], member_first, member, phi, count
    )


def _named(channels: Channels) -> list[tuple[int, int]]:
    return list(zip(channels.advertiser_id.tolist(), channels.id.tolist(), strict=True))
