"""Rivals from bids: how many, how often, how much, by maximum likelihood over censored prices.

Every bid says something of the best rival: its price where the exchange told it, else on which side
of a known price it lies. Rivals (``kernels``) are added as long as the log supports it by the
criterion of Schwarz (Annals of Statistics 6 (1978)), which finds their number as logs grow, where a
fixed penalty splits one rival into two in a constant share of logs. Scenes shift all bids; the
shifts are drawn from a normal law whose spread is estimated (DerSimonian and Laird, "Meta-analysis
in clinical trials", Controlled Clinical Trials 7 (1986)) and which pulls the uncertain ones to 0.

Bidders know some of the same of a user: where our own bid is high, so are often those of others
(``slant``); without it a forecast for other bids would take a user's worth for luck. Users are met
again and have tastes, so rows are not independent: the covariance is the sandwich of
observed information and clustered scores (White, Econometrica 50 (1982); Liang and Zeger,
Biometrika 73 (1986)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit

from market.errors import BadInput
from simulator.calibration.kernels import ABOVE, BELOW, EXACT, F64, I32, U8, rival_terms
from simulator.calibration.kernels import win_probabilities as _win_probabilities
from simulator.calibration.log import I64, NEVER, U64, Log, summed
from simulator.calibration.terms import Estimate, RivalFit, RivalsFit

if TYPE_CHECKING:
    from collections.abc import Callable

RIVALS_MAX = 4
"""More cannot be told apart by the best bid of all."""

ROWS_MIN = 100
"""Decided bids that a fit needs."""

Z95 = 1.959963984540054

_NUMBERS_PER_RIVAL = 3
_STEP = 1e-5
_TOLD_MIN = 0.1
_LOOSE = 1.0
_TIGHT = 1e-3
_ROUNDS = 60


class Known(NamedTuple):
    """What a log says of market prices, for the likelihood; all [N].

    Attributes:
        slant_precision: of the prior of ``slant``, which is 0 on average.
        scene: int32.
        worth: our own log bid, centred.
        log_price: log units of currency per thousand.
        known: uint8 ``EXACT``, ``BELOW`` or ``ABOVE``.
        user: uint64 clusters; rows without a user are their own.
        row: int64 rows of the log.
    """

    slant_precision: float
    scene: I32
    worth: F64
    log_price: F64
    known: U8
    user: U64
    row: I64


class _Fit(NamedTuple):
    """A maximum: theta[3K + 1 + S], minus the second derivatives there, and the log likelihood."""

    theta: F64
    information: F64
    value: float
    spread: float


def known_prices(log: Log) -> Known:
    """Returns what a log says of market prices; rows that say nothing are left out."""
    least, most = log.least_cpm_micros, log.most_cpm_micros
    is_exact = (least == most) & (least > 0)
    is_below = (least == 0) & (most < NEVER)
    is_above = (least > 0) & (most == NEVER)
    row = np.flatnonzero((is_exact | is_below | is_above) & (log.is_decided > 0))
    known = np.where(is_exact, EXACT, np.where(is_below, BELOW, ABOVE))[row].astype(np.uint8)
    price = np.where(is_below, most, least)[row]
    # Where prices are only compared with our own bids, a slant cannot be told from a spread.
    is_told = float(np.mean(known == EXACT)) > _TOLD_MIN if row.size else False
    return Known(
        slant_precision=_LOOSE**-2 if is_told else _TIGHT**-2,
        scene=log.scene[row],
        worth=worth_of(log, bid_centre(log))[row],
        log_price=np.log(np.maximum(price, 1) * 1e-6),
        known=known,
        user=clusters(log)[row],
        row=row,
    )


def clusters(log: Log) -> U64:
    """Returns [N] names of the users; who is not known is somebody else on every row."""
    unknown = np.arange(log.row_count, dtype=np.uint64) | (np.uint64(1) << np.uint64(63))
    return np.where(log.user > 0, log.user, unknown)


def fit_rivals(log: Log) -> RivalsFit:
    """Returns the rivals under which the log is likeliest.

    Raises:
        BadInput: too few bids were decided by price, or all of them one way, so that nothing says
            where prices lie.
    """
    known = known_prices(log)
    count = known.row.shape[0]
    if count < ROWS_MIN:
        raise BadInput(
            f"rivals: {count} bids were decided by price; a fit needs {ROWS_MIN}, so give it a "
            "longer log"
        )
    for code, side in ((BELOW, "lower"), (ABOVE, "higher")):
        if (known.known == code).all():
            raise BadInput(
                f"rivals: of all {count} bids the log says only that rivals bid {side}; it must "
                "hold wins and losses, or prices to win"
            )
    scenes = len(log.scenes)
    best = _fit_scenes(_first_guess(known, scenes), 1, known)
    # The penalty of Schwarz, in units of log likelihood.
    worth_it = 0.5 * _NUMBERS_PER_RIVAL * np.log(count)
    for rivals in range(2, RIVALS_MAX + 1):
        more = _fit_scenes(_one_more(best.theta, rivals - 1), rivals, known)
        if more.value - best.value <= worth_it:
            break
        best = more
    return _report(best, (best.theta.shape[0] - scenes - 1) // 3, known, log)


class Numbers(NamedTuple):
    """Rivals' numbers for kernels: odds[K], log_sigma[K], median[K], slant, shift[S]."""

    odds: F64
    log_sigma: F64
    median: F64
    slant: float
    shift: F64


def numbers_at(theta: F64, rivals: int) -> Numbers:
    """Returns the numbers of a vector [3K + 1 + S], in the order of ``RivalsFit.covariance``."""
    odds, log_sigma, median, slant, shift = np.split(
        theta, (rivals, 2 * rivals, 3 * rivals, 3 * rivals + 1)
    )
    return Numbers(odds, log_sigma, median, float(slant[0]), shift)


def theta_of(fit: RivalsFit) -> F64:
    """Returns the fitted vector [3K + 1 + S], in the order of ``RivalsFit.covariance``."""
    presence = np.clip([rival.presence.value for rival in fit.rivals], 1e-9, 1.0 - 1e-9)
    return np.concatenate((
        np.log(presence / (1.0 - presence)),
        np.log([rival.sigma.value for rival in fit.rivals]),
        np.log([rival.cpm_median.value for rival in fit.rivals]),
        [fit.slant.value],
        fit.scene_shift,
    ))  # fmt: skip


def win_probabilities(fit: RivalsFit, log: Log, multiplier: float = 1.0) -> F64:
    """Returns [N] probability that each bid of a log, times ``multiplier``, wins."""
    return _win_probabilities(
        *numbers_at(theta_of(fit), len(fit.rivals)), log.scene,
        worth_of(log, fit.bid_cpm_centre), scaled_bids(log, multiplier),
        log.floor_cpm_micros,
    )  # fmt: skip


def bid_centre(log: Log) -> float:
    """Returns the geometric mean of a log's bids, units of currency per thousand."""
    return float(np.exp(np.log(np.maximum(log.bid_cpm_micros, 1) * 1e-6).mean()))


def worth_of(log: Log, centre: float) -> F64:
    """Returns [N] logged log bids relative to ``centre``: what our own bid says of the user.

    Always of the bids as logged: to bid more does not make a user worth more.
    """
    return np.log(np.maximum(log.bid_cpm_micros, 1) * 1e-6) - np.log(centre)


def scaled_bids(log: Log, multiplier: float) -> I64:
    """Returns [N] int64 bids times ``multiplier``, micros CPM."""
    return np.rint(log.bid_cpm_micros * multiplier).astype(np.int64)


def _first_guess(known: Known, scenes: int) -> F64:
    start = [0.5, np.log(0.5), float(np.median(known.log_price))]
    return np.concatenate((start, np.zeros(1 + scenes)))


def _one_more(theta: F64, rivals: int) -> F64:
    """Returns a start for one more rival: the strongest is split into a lower and a higher one."""
    # numbers_at gives views: the fit that is split stays as it is.
    odds, log_sigma, median, slant, shift = numbers_at(theta.copy(), rivals)
    k = int(np.argmax(odds))
    presence = expit(min(odds[k], 3.0))
    half = 1.0 - np.sqrt(1.0 - presence)
    odds[k] = np.log(half / (1.0 - half))
    apart = 0.4 * np.exp(log_sigma[k])
    higher = median[k] + apart
    median[k] -= apart
    return np.concatenate((
        odds, odds[[k]], log_sigma, log_sigma[[k]], median, [higher], [slant],
        shift,
    ))  # fmt: skip


def _fit_scenes(start: F64, rivals: int, known: Known) -> _Fit:
    """Returns the fit with shifts of scenes, pulled towards 0 by their estimated spread.

    Scenes are first fitted all but freely, which tells how far they differ.
    """
    if start.shape[0] - _own(rivals) == 1:
        return _maximise(start, rivals, known, _TIGHT)
    loose = _maximise(start, rivals, known, _LOOSE)
    spread = max(_scene_spread(loose, rivals, known), _TIGHT)
    return _maximise(loose.theta, rivals, known, spread)


def _scene_spread(fit: _Fit, rivals: int, known: Known) -> float:
    """Returns the spread of the scenes' shifts beyond their own errors (DerSimonian and Laird)."""
    own = _own(rivals)
    shift = fit.theta[own:]
    covariance = _sandwich(fit, rivals, known)
    seen = summed(known.scene, None, shift.shape[0]) > 0
    # The level of a scene is its shift and the middle of the rivals' medians.
    level = np.zeros((shift.shape[0], fit.theta.shape[0]))
    level[:, own:] = np.eye(shift.shape[0])
    level[:, 2 * rivals : 3 * rivals] = 1.0 / rivals
    weight = 1.0 / np.diag(level @ covariance @ level.T)[seen]
    centre = np.average(shift[seen], weights=weight)
    excess = np.sum(weight * (shift[seen] - centre) ** 2) - (int(seen.sum()) - 1)
    scale = weight.sum() - np.sum(weight**2) / weight.sum()
    return float(np.sqrt(max(excess / scale, 0.0))) if scale > 0 else 0.0


def _maximise(start: F64, rivals: int, known: Known, spread: float) -> _Fit:
    """Returns the penalised maximum near ``start``, by damped Newton steps.

    Shifts have a normal prior of this spread, the slant one of its own, presences that of Jeffreys,
    which keeps them from running off to 0 or 1 where few prices are below the floor.
    """
    theta, own = start.copy(), _own(rivals)
    precision = spread**-2
    low, high = np.full(theta.shape[0], -10.0), np.full(theta.shape[0], 10.0)
    low[:rivals], high[:rivals] = -8.0, 8.0
    low[rivals : 2 * rivals], high[rivals : 2 * rivals] = -4.0, 2.0

    def objective(at: F64) -> tuple[float, F64]:
        value, rows = rival_terms(*numbers_at(at, rivals), *_data(known))
        shift, p = at[own:], expit(at[:rivals])
        total = float(value.sum()) - 0.5 * precision * float(shift @ shift)
        total -= 0.5 * known.slant_precision * float(at[own - 1] ** 2)
        total += 0.5 * float(np.log(p * (1.0 - p)).sum())
        slope = np.concatenate((rows[:, :-1].sum(axis=0), _by_scene(rows[:, -1], known, shift)))
        slope[:rivals] += 0.5 - p
        slope[own - 1] -= known.slant_precision * at[own - 1]
        slope[own:] -= precision * shift
        return total, slope

    value, slope = objective(theta)
    damping = 1e-3
    for _ in range(_ROUNDS):
        information = _information(theta, rivals, known, precision)
        scale = np.diag(np.maximum(np.abs(np.diag(information)), 1.0))
        while damping < 1e12:
            step = np.linalg.lstsq(information + damping * scale, slope, rcond=None)[0]
            trial = np.clip(theta + np.clip(step, -1.0, 1.0), low, high)
            new_value, new_slope = objective(trial)
            if np.isfinite(new_value) and new_value >= value - 1e-9:
                break
            damping *= 10.0
        else:
            break
        moved = float(np.abs(trial - theta).max())
        theta, value, slope = trial, new_value, new_slope
        damping = max(damping / 10.0, 1e-9)
        if moved < 1e-6:
            break
    return _Fit(theta, _information(theta, rivals, known, precision), value, spread)


def _own(rivals: int) -> int:
    """Returns how many numbers come before the shifts."""
    return 3 * rivals + 1


def _data(known: Known) -> tuple[I32, F64, F64, U8]:
    return known.scene, known.worth, known.log_price, known.known


def _by_scene(values: F64, known: Known, shift: F64) -> F64:
    """Returns [S] sums of the rows of each scene."""
    return summed(known.scene, values, shift.shape[0])


def _information(theta: F64, rivals: int, known: Known, precision: float) -> F64:
    """Returns [3K + 1 + S] squared, minus the second derivatives: differences of the gradient.

    A row depends on 3K + 2 numbers only, so that many differences give the whole matrix.
    """
    own, size = _own(rivals), theta.shape[0]
    second = np.zeros((size, size))
    for place in range(own + 1):
        step = np.zeros(size)
        step[place if place < own else slice(own, None)] = _STEP
        sides = [
            rival_terms(*numbers_at(at, rivals), *_data(known))[1]
            for at in (theta + step, theta - step)
        ]
        slope = (sides[0] - sides[1]) / (2.0 * _STEP)
        by_scene = _by_scene(slope[:, -1], known, theta[own:])
        if place < own:
            second[place, :own] = slope[:, :-1].sum(axis=0)
            second[place, own:] = second[own:, place] = by_scene
        else:
            second[own:, own:] = np.diag(by_scene)
    second[:own, :own] = 0.5 * (second[:own, :own] + second[:own, :own].T)
    p = expit(theta[:rivals])
    second[:rivals, :rivals] -= np.diag(p * (1.0 - p))
    second[own - 1, own - 1] -= known.slant_precision
    second[own:, own:] -= precision * np.eye(size - own)
    return -second


def _sandwich(fit: _Fit, rivals: int, known: Known) -> F64:
    """Returns [3K + 1 + S] squared, the covariance of theta, robust to users that are met again."""
    own, size = _own(rivals), fit.theta.shape[0]
    _, rows = rival_terms(*numbers_at(fit.theta, rivals), *_data(known))
    users, cluster = np.unique(known.user, return_inverse=True)
    count = known.row.shape[0]
    column = np.concatenate((np.repeat(np.arange(own), count), known.scene + own))
    scores = csr_array(
        (rows.T.ravel(), (np.tile(cluster, own + 1), column)), shape=(users.shape[0], size)
    )
    meat = (scores.T @ scores).toarray()
    meat[own - 1, own - 1] += known.slant_precision
    meat[own:, own:] += fit.spread**-2 * np.eye(size - own)
    bread = np.linalg.pinv(fit.information, hermitian=True)
    return bread @ meat @ bread


def _report(fit: _Fit, rivals: int, known: Known, log: Log) -> RivalsFit:
    odds, log_sigma, median, slant, shift = numbers_at(fit.theta, rivals)
    covariance = _sandwich(fit, rivals, known)
    error = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    told = RivalsFit(
        rivals=tuple(
            RivalFit(
                presence=_estimate(odds[k], error[k], lambda x: float(expit(x))),
                cpm_median=_estimate(median[k], error[2 * rivals + k], _exp),
                sigma=_estimate(log_sigma[k], error[rivals + k], _exp),
            )
            for k in range(rivals)
        ),
        scene_sigma=float(fit.spread) if fit.spread > _TIGHT else 0.0,
        slant=_estimate(slant, error[3 * rivals], float),
        bid_cpm_centre=bid_centre(log),
        bid_sigma=float(worth_of(log, 1.0).std()),
        scene_shift=tuple(shift.tolist()),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
        dispersion=1.0,
    )
    chance = win_probabilities(told, log)[known.row]
    spread = chance * (1.0 - chance)
    _, cluster = np.unique(known.user, return_inverse=True)
    residual = np.bincount(cluster, weights=log.has_won[known.row] - chance)
    dispersion = float(np.sum(residual**2) / max(float(spread.sum()), 1e-9))
    return msgspec.structs.replace(told, dispersion=max(dispersion, 1.0))


def _estimate(middle: float, error: float, scale: Callable[[float], float]) -> Estimate:
    low, high = middle - Z95 * error, middle + Z95 * error
    return Estimate.of(scale(middle), scale(low), scale(high))


def _exp(x: float) -> float:
    return float(np.exp(np.clip(x, -50.0, 50.0)))
