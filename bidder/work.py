"""Scratch of the decision kernels: allocated once, so that a decision allocates nothing.

Nothing here is an answer: what is in it may make a decision faster, never another one.

Dimension names: X = expressions, G = groups of 512 expressions, I = line items in the order of
``expression_rows``, J = their creatives in that order, W = words of a block, E = embedding width of
one head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from bidder.kernels_match import LOOKED_UP_LISTS
from market.decision import DECISION_DTYPE
from market.events import FEATURE_COUNT
from market.opportunity import DIMENSION_COUNT
from market.snapshot import GROUP_WORDS

if TYPE_CHECKING:
    from market.snapshot import Snapshot

PROPENSITY_DRAWS = 32
"""Keyed draws by which the probability of a creative's choice is estimated."""

CODES_MIN = 1_024
"""Codes in the lists of an opportunity for which there is room from the start."""

CANDIDATES_MAX = 256
"""Line items of a group that wait for their turn; when there are more, the best go at once."""

ITEM_BOUND_DTYPE = np.dtype(
    [
        # log of the highest bid in USD micros CPM for an average context: at first price, any
        ("value", np.float64, (2,)),
        # by head (pctr, pcvr): how much the log moves per unit of logit, and per unit of norm at
        # most beside what it does by the centre of the expression
        ("slope", np.float32, (2,)),
        ("reach", np.float32, (2,)),
        # highest rank that the ceiling leaves
        ("ceiling", np.int64),
        ("line_item_id", np.uint32),
        ("row", np.int32),
        # slice of ``Bounds.near``
        ("near_first", np.int32),
        ("near_count", np.int32),
        # ``value`` without what a policy sets, -inf: never bids
        ("model", np.float64),
    ],
    align=True,
)
"""What bounds the bid of a line item; one cache line."""
assert ITEM_BOUND_DTYPE.itemsize == 64

EXPRESSION_BOUND_DTYPE = np.dtype([("value", np.float32, (2,)), ("ceiling", np.int64)], align=True)
"""Highest of its line items', in a typical context (``Bounds.typical``)."""


class Bounds(NamedTuple):
    """Upper bounds on what could be bid now, see ``bidder.kernels_bound``.

    Index 0 of a pair is for first-price opportunities without deals, 1 for all others.

    Attributes:
        items: [I] of ITEM_BOUND_DTYPE.
        reaches: [I, 2] float32, as ``reach`` without a centre.
        centres: [X, 2E] int8, mean embedding of each expression's creatives, rounded.
        centre_scales: [X, 2] float32, by head: scale of the row in ``centres``.
        near: [J, 2E] int8, embeddings of the creatives in the order of ``items``, rounded.
        near_terms: [J, 2, 2] float32, by head: scale of the row in ``near``, and how far (norm) the
            embedding may be from it, times the calibration's slope.
        expressions: [X] of EXPRESSION_BOUND_DTYPE.
        group_values: [2, G] float64, highest of the group's expressions.
        group_ceilings: [G] int64.
        group_order: [2, G] int64, groups by value, highest first.
        ranges: [2, 4] float64, by head: lowest and highest slope, lowest and highest reach.
        typical: [2, 2] float64, by head: shift and norm of the context that ``expressions`` is for.
        traffic: [5] float64: opportunities seen, sums of shift and norm by head.
    """

    items: npt.NDArray[np.void]
    reaches: npt.NDArray[np.float32]
    centres: npt.NDArray[np.int8]
    centre_scales: npt.NDArray[np.float32]
    near: npt.NDArray[np.int8]
    near_terms: npt.NDArray[np.float32]
    expressions: npt.NDArray[np.void]
    group_values: npt.NDArray[np.float64]
    group_ceilings: npt.NDArray[np.int64]
    group_order: npt.NDArray[np.int64]
    ranges: npt.NDArray[np.float64]
    typical: npt.NDArray[np.float64]
    traffic: npt.NDArray[np.float64]


class Found(NamedTuple):
    """What an opportunity's values are in the index, see ``bidder.kernels_match.look_up``.

    Attributes:
        dimensions: [DIMENSION_COUNT] int64, index slot by dimension; -1: nobody names the value,
            -2: nobody targets the dimension.
        list_first: [LOOKED_UP_LISTS + 1] int64, slices of ``slots``.
        slots: [*] int64, index slots; room for twice the codes of an opportunity and its formats.
        is_private: [1] bool: only expressions with one of the looked up deals may serve.
        words: [W] uint64, the group's expressions that are left.
        scratch: [W] uint64.
    """

    dimensions: npt.NDArray[np.int64]
    list_first: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]
    is_private: npt.NDArray[np.bool_]
    words: npt.NDArray[np.uint64]
    scratch: npt.NDArray[np.uint64]


class Candidates(NamedTuple):
    """Line items of a group that bounds leave: [N] places in ``Bounds.items``, and their bounds."""

    places: npt.NDArray[np.int64]
    bounds: npt.NDArray[np.float64]


class Work(NamedTuple):
    """Scratch of one decision: reused, never read across opportunities (``bounds`` is).

    Shapes: features[F] uint32; vector[2E], bias[2] float64 from ``context_side``; context[4]
    float64 = shift and norm by head; pull[2E] float32 = vector times the calibration's slope;
    chosen[2] float64 = pctr, pcvr; draws[2, 32] float64; best, offer, nothing: [1] of
    DECISION_DTYPE.
    """

    found: Found
    bounds: Bounds
    candidates: Candidates
    features: npt.NDArray[np.uint32]
    vector: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    context: npt.NDArray[np.float64]
    pull: npt.NDArray[np.float32]
    chosen: npt.NDArray[np.float64]
    draws: npt.NDArray[np.float64]
    best: npt.NDArray[np.void]
    offer: npt.NDArray[np.void]
    nothing: npt.NDArray[np.void]


def new_found(code_count: int) -> Found:
    """Returns room for an opportunity whose lists hold up to ``code_count`` codes together."""
    return Found(
        dimensions=np.zeros(DIMENSION_COUNT, np.int64),
        list_first=np.zeros(LOOKED_UP_LISTS + 1, np.int64),
        slots=np.zeros(2 * code_count + 128, np.int64),
        is_private=np.zeros(1, np.bool_),
        words=np.zeros(GROUP_WORDS, np.uint64),
        scratch=np.zeros(GROUP_WORDS, np.uint64),
    )


def typical_context(context_vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Returns ``Bounds.typical`` before any was met: its fields are drawn from all rows alike."""
    by_head = np.square(context_vectors.astype(np.float64)).reshape(context_vectors.shape[0], 2, -1)
    norms = np.sqrt(FEATURE_COUNT * by_head.sum(axis=2).mean(axis=0))
    return np.stack([np.zeros(2), norms], axis=1)


def new_bounds(snapshot: Snapshot) -> Bounds:
    """Returns bounds of the snapshot's sizes; ``kernels_bound`` fills them."""
    arrays = snapshot.arrays
    groups = arrays.index_defaults.shape[0]
    width = arrays.ad_vectors.shape[1]
    creative_count = int(arrays.line_items["creative_count"][arrays.expression_rows].sum())
    return Bounds(
        items=np.zeros(arrays.expression_rows.shape[0], ITEM_BOUND_DTYPE),
        reaches=np.zeros((arrays.expression_rows.shape[0], 2), np.float32),
        centres=np.zeros((arrays.expression_first.shape[0] - 1, width), np.int8),
        centre_scales=np.zeros((arrays.expression_first.shape[0] - 1, 2), np.float32),
        near=np.zeros((creative_count, width), np.int8),
        near_terms=np.zeros((creative_count, 2, 2), np.float32),
        expressions=np.zeros(arrays.expression_first.shape[0] - 1, EXPRESSION_BOUND_DTYPE),
        group_values=np.zeros((2, groups)),
        group_ceilings=np.zeros(groups, np.int64),
        group_order=np.zeros((2, groups), np.int64),
        ranges=np.zeros((2, 4)),
        typical=typical_context(arrays.context_vectors),
        traffic=np.zeros(5),
    )


def new_work(snapshot: Snapshot, code_count: int = CODES_MIN) -> Work:
    """Returns scratch of the sizes that this snapshot and lists of so many codes need."""
    nothing = np.zeros(1, DECISION_DTYPE)
    nothing["line_item_row"] = nothing["creative_row"] = nothing["deal_index"] = -1
    nothing["rendition_row"] = -1
    width = snapshot.arrays.context_vectors.shape[1]
    return Work(
        found=new_found(code_count),
        bounds=new_bounds(snapshot),
        candidates=Candidates(np.zeros(CANDIDATES_MAX, np.int64), np.zeros(CANDIDATES_MAX)),
        features=np.zeros(FEATURE_COUNT, np.uint32),
        vector=np.zeros(width),
        bias=np.zeros(2),
        context=np.zeros(4),
        pull=np.zeros(width, np.float32),
        chosen=np.zeros(2),
        draws=np.zeros((2, PROPENSITY_DRAWS)),
        best=np.zeros(1, DECISION_DTYPE),
        offer=np.zeros(1, DECISION_DTYPE),
        nothing=nothing,
    )
