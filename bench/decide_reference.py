"""The decision as numpy would make it: boolean masks over all line items, a product, an argmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from bidder.recommendation.network import creative_tables
from market.chance import code_of
from market.events import FEATURE_COUNT
from market.features import CONTEXT_BUCKETS, CONTEXT_DIMENSIONS, ad_features
from market.kernels import context_features
from market.opportunity import CodeList, Dimension

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bench.decide_world import World
    from market.campaign import Campaign, LineItem

_LISTS = (CodeList.SEGMENT, CodeList.CATEGORY)


Mask: TypeAlias = npt.NDArray[np.bool_]
Item: TypeAlias = "tuple[Campaign, LineItem]"


class _Named(NamedTuple):
    """Who names what of one dimension or list: masks over line items by code."""

    includes: dict[int, Mask]
    excludes: dict[int, Mask]
    asks_nothing: Mask


class Reference:
    """Masks by value, made once; then a few numpy calls an opportunity.

    Attributes:
        eligible: line items that were left before the floor, for every opportunity asked.
    """

    def __init__(self, world: World) -> None:
        """Makes the masks of every value that line items or opportunities name."""
        items = [(c, item) for c in world.campaigns for item in c.line_items]
        count = len(items)
        order = np.array([world.compilation.rows[item.line_item_id] for _, item in items])
        self.eligible: list[int] = []
        self._ids = np.empty(count, np.int64)
        self._campaigns = np.empty(count, np.int64)
        self._is_capped = np.zeros(count, bool)
        self._value_micros = np.empty(count)
        self._ids[order] = [item.line_item_id for _, item in items]
        self._campaigns[order] = [c.campaign_id for c, _ in items]
        self._is_capped[order] = [bool(item.frequency_caps) for _, item in items]
        self._value_micros[order] = [c.goal.target_cpa_micros or 0 for c, _ in items]
        live = world.live
        self._active = live.is_active[:count].astype(bool)
        self._value_micros *= 1000 * live.shading_factor[:count] / live.pacing_lambda[:count]
        rows = np.empty((count, 6), np.uint32)
        rows[order] = [ad_features(c, item.creatives[0]) for c, item in items]
        vectors, bias = creative_tables(world.weights, rows)
        # One matrix-vector product a head, over memory that lies in a row.
        width = vectors.shape[1] // 2
        self._heads = [
            (np.ascontiguousarray(vectors[:, head * width : (head + 1) * width]),
             np.ascontiguousarray(bias[:, head]))
            for head in range(2)
        ]  # fmt: skip
        self._weights = world.weights
        self._world = world
        self._masks(items, order)

    def _masks(self, items: list[Item], order: npt.NDArray[np.int64]) -> None:
        nobody = np.zeros(len(items), bool)
        self._accepts: list[tuple[int, dict[int, Mask], Mask]] = []
        self._asks: dict[CodeList, dict[int, Mask]] = {}
        self._refuses: dict[CodeList, dict[int, Mask]] = {}
        self._asks_nothing: dict[CodeList, Mask] = {}
        for dimension in Dimension:
            named = _named(items, order, dimension.name.lower())
            values = {*named.includes, *named.excludes}
            if not values:
                continue
            masks = {
                code: (named.asks_nothing | named.includes.get(code, nobody))
                & ~named.excludes.get(code, nobody)
                for code in values
            }
            self._accepts.append((int(dimension), masks, named.asks_nothing))
        for which in _LISTS:
            named = _named(items, order, which.name.lower())
            self._asks[which] = named.includes
            self._refuses[which] = named.excludes
            self._asks_nothing[which] = named.asks_nothing
        self._categories = _masks_of(items, order, lambda c, _: [c.category])
        self._advertisers = _masks_of(items, order, lambda c, _: [c.advertiser_domain])

    def decide(self, n: int) -> int:  # noqa: C901 - one mask after the other
        """Returns the line item that wins opportunity ``n``, 0 for none."""
        block = self._world.opportunities
        record = block.records[n]
        mask = self._active.copy()
        for dimension, masks, default in self._accepts:
            mask &= masks.get(int(record["dimensions"][dimension]), default)
        lists = {
            which: block.codes[
                record["list_first"][which] : record["list_first"][which]
                + record["list_count"][which]
            ].tolist()
            for which in (*_LISTS, CodeList.CATEGORY_BLOCKED, CodeList.ADVERTISER_BLOCKED)
        }
        for which in _LISTS:
            asked = self._asks_nothing[which].copy()
            for code in lists[which]:
                if code in self._asks[which]:
                    asked |= self._asks[which][code]
                if code in self._refuses[which]:
                    mask &= ~self._refuses[which][code]
            mask &= asked
        for which, masks in (
            (CodeList.CATEGORY_BLOCKED, self._categories),
            (CodeList.ADVERTISER_BLOCKED, self._advertisers),
        ):
            for code in lists[which]:
                if code in masks:
                    mask &= ~masks[code]
        capped = self._world.capped[n]
        if capped.shape[0]:
            mask &= ~(self._is_capped & np.isin(self._campaigns, capped))
        sides, context_bias = self._context(record, np.array(lists[CodeList.SEGMENT], np.uint64))
        odds = [
            1 + np.exp(-(vectors @ side + (bias + own)))
            for (vectors, bias), side, own in zip(self._heads, sides, context_bias, strict=True)
        ]
        bids = np.where(mask, self._value_micros / (odds[0] * odds[1]), -1.0)
        best = int(bids.argmax())
        self.eligible.append(int(np.count_nonzero(mask)))
        if np.floor(bids[best]) < max(int(record["floor_cpm_micros"]), 1):
            return 0
        # Bids are whole micros, and of equal ones the lowest id wins.
        equal = np.flatnonzero(np.floor(bids) == np.floor(bids[best]))
        return int(self._ids[equal].min())

    def _context(
        self, record: np.void, segments: npt.NDArray[np.uint64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Returns the context side of both heads, [2, E], and their biases."""
        features = np.zeros(FEATURE_COUNT, np.uint32)
        context_features(
            np.array([int(d) for d in CONTEXT_DIMENSIONS]), record["dimensions"], segments,
            CONTEXT_BUCKETS, features,
        )  # fmt: skip
        vector = self._weights.context_vectors[features].sum(axis=0)
        return vector.reshape(2, -1), self._weights.context_bias[features].sum(axis=0)


def _named(items: list[Item], order: npt.NDArray[np.int64], name: str) -> _Named:
    asks_nothing = np.ones(len(items), bool)
    for row, (_, item) in zip(order.tolist(), items, strict=True):
        asks_nothing[row] = name not in item.targeting.include
    return _Named(
        _masks_of(items, order, lambda _, item: item.targeting.include.get(name, ())),
        _masks_of(items, order, lambda _, item: item.targeting.exclude.get(name, ())),
        asks_nothing,
    )


def _masks_of(
    items: list[Item],
    order: npt.NDArray[np.int64],
    texts_of: Callable[[Campaign, LineItem], Iterable[str]],
) -> dict[int, Mask]:
    rows: dict[str, list[int]] = {}
    for row, (campaign, item) in zip(order.tolist(), items, strict=True):
        for text in texts_of(campaign, item):
            rows.setdefault(text, []).append(row)
    masks: dict[int, Mask] = {}
    for text, named_by in rows.items():
        mask = masks.setdefault(code_of(text), np.zeros(len(items), bool))
        mask[named_by] = True
    return masks
