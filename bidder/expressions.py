"""Targeting expressions: what of a line item is held against an opportunity's texts, deduplicated.

Line items of a campaign mostly target alike, so the index (``bidder.index``) is over expressions:
a targeting with the seat, ad categories, advertiser domain and app that an exchange may forbid, the
formats and banner sizes it has, and its deals.
``ExpressionPool`` gives each a number, the same for as long as the pool lives; ``rank_order`` puts
those in use in the order of what they could be worth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from bidder.index import Names
from market.campaign import Campaign, LineItem, format_bit
from market.chance import code_of
from market.opportunity import Dimension
from market.snapshot import Table, size_code

if TYPE_CHECKING:
    from collections.abc import Iterable

_DIMENSIONS = {dimension.name.lower(): int(dimension) for dimension in Dimension}
_LISTS = {
    name.lower(): (int(Table[name]), int(Table[f"{name}_EXCLUDED"]))
    for name in ("SEGMENT", "CATEGORY", "KEYWORD", "USER_KEYWORD", "EID_SOURCE", "SITE")
}
# Nobody takes a value that nobody names in these: they hold what an expression is or has.
_POSSESSIONS = sum(
    1 << table
    for table in (
        *(refuses for _, refuses in _LISTS.values()),
        Table.SEAT, Table.AD_CATEGORY, Table.ADVERTISER_DOMAIN, Table.APP_BUNDLE, Table.FORMAT,
        Table.DEAL,
    )
)  # fmt: skip


class _Expression(NamedTuple):
    asks: int
    values: npt.NDArray[np.int64]


class ExpressionPool:
    """Numbers for values and expressions; one that was given is never taken back."""

    def __init__(self) -> None:
        """Starts empty."""
        self._codes: dict[str, int] = {}
        self._values: dict[tuple[int, int], int] = {}
        self._numbers: dict[tuple[int, tuple[int, ...]], int] = {}
        self._expressions: list[_Expression] = []

    def of_campaign(self, campaign: Campaign, seats: Iterable[str]) -> npt.NDArray[np.int64]:
        """Returns the number of the expression of each line item; ``seats``: what each bids for."""
        shared = {
            *(self._value(Table.AD_CATEGORY, name) for name in ad_categories(campaign)),
            *(self._value(Table.ADVERTISER_DOMAIN, name) for name in domains_of(campaign)),
            *(self._value(Table.APP_BUNDLE, name) for name in (campaign.app_bundle,) if name),
        }
        return np.array(
            [
                self._of_line_item(line_item, {*shared, self._value(Table.SEAT, seat)})
                for line_item, seat in zip(campaign.line_items, seats, strict=True)
            ],
            np.int64,
        )

    def names(self, expressions: npt.NDArray[np.int64]) -> Names:
        """Returns which values these expressions name, in this order."""
        chosen = [self._expressions[number] for number in expressions.tolist()]
        counts = [each.values.shape[0] for each in chosen]
        values = np.concatenate([np.zeros(0, np.int64), *(each.values for each in chosen)])
        used, index = np.unique(values, return_inverse=True)
        named = np.array(list(self._values), np.uint64).reshape(-1, 2)[used]
        order = np.lexsort((named[:, 1], named[:, 0]))
        place = np.empty_like(order)
        place[order] = np.arange(order.shape[0])
        return Names(
            asks=np.array([each.asks for each in chosen], np.uint64),
            tables=named[order, 0].astype(np.int64),
            codes=named[order, 1].copy(),
            values=place[index],
            owners=np.repeat(np.arange(len(chosen)), counts),
        )

    def _of_line_item(self, line_item: LineItem, values: set[int]) -> int:
        """Adds what a line item names to ``values`` and returns its expression's number."""
        asks = _POSSESSIONS
        include, exclude = line_item.targeting.include, line_item.targeting.exclude
        for name, texts in include.items():
            table = _DIMENSIONS.get(name)
            named = texts
            if table is None:
                table = _LISTS[name][0]
            elif name in exclude:
                forbidden = {self._code(text) for text in exclude[name]}
                named = tuple(text for text in texts if self._code(text) not in forbidden)
            asks |= 1 << table
            values.update(self._value(table, text) for text in named)
        for name, texts in exclude.items():
            table = _DIMENSIONS.get(name)
            if table is None:
                values.update(self._value(_LISTS[name][1], text) for text in texts)
            elif name not in include:
                values.update(self._value(table, text) for text in texts)
        for creative in line_item.creatives:
            values.add(self._value_of(Table.FORMAT, format_bit(creative.format)))
            if creative.format == "banner":
                size = creative.width << 16 | creative.height
                values.add(self._value_of(Table.FORMAT, size_code(size)))
        values.update(self._value(Table.DEAL, deal) for deal in line_item.deals)
        key = asks, tuple(sorted(values))
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._expressions)
            self._expressions.append(_Expression(asks, np.array(key[1], np.int64)))
        return number

    def _value(self, table: int, text: str) -> int:
        return self._value_of(table, self._code(text))

    def _value_of(self, table: int, code: int) -> int:
        return self._values.setdefault((int(table), code), len(self._values))

    def _code(self, text: str) -> int:
        code = self._codes.get(text)
        if code is None:
            code = self._codes[text] = code_of(text)
        return code


class RankOrder(NamedTuple):
    """Expressions in use in rank order, and the line items of each.

    Attributes:
        expressions: [X] numbers of the pool.
        first: [X + 1] int32, slices of ``rows``.
        rows: [I] int32, line item rows; of one expression the most worth first.
        position_of: [I] int32, position of the expression of each line item as given.
    """

    expressions: npt.NDArray[np.int64]
    first: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]
    position_of: npt.NDArray[np.int32]


def rank_order(
    expressions: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], worths: npt.NDArray[np.float64]
) -> RankOrder:
    """Returns the order of expressions by the most that one of their line items could be worth.

    Depends on numbers of the pool in nothing but ``expressions``: among equals the one that has the
    lowest line item row comes first.

    Args:
        expressions: [I] number of each line item's expression.
        rows: [I] its row.
        worths: [I] log of what it could bid; -inf: never bids.
    """
    numbers, index = np.unique(expressions, return_inverse=True)
    highest = np.full(numbers.shape[0], -np.inf)
    np.maximum.at(highest, index, worths)
    lowest_row = np.full(numbers.shape[0], np.iinfo(np.int64).max)
    np.minimum.at(lowest_row, index, rows)
    order = np.lexsort((lowest_row, -highest))
    position = np.empty(numbers.shape[0], np.int64)
    position[order] = np.arange(numbers.shape[0])
    position_of = position[index]
    counts = np.bincount(position_of, minlength=numbers.shape[0])
    by_expression = np.lexsort((rows, -worths, position_of))
    return RankOrder(
        expressions=numbers[order],
        first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        rows=rows[by_expression].astype(np.int32),
        position_of=position_of.astype(np.int32),
    )


def ad_categories(campaign: Campaign) -> tuple[str, ...]:
    """Returns what names the ad's category: ``IAB18-2`` is also blocked by ``IAB18``.

    A category of another taxonomy is named ``6:483``, and ``6:`` says that there is one.
    """
    category = campaign.category
    named = (category, category.split("-", 1)[0]) if "-" in category else (category,)
    others = campaign.categories_by_taxonomy.items()
    return (*named, *(f"{taxonomy}:{name}" for taxonomy, names in others for name in ("", *names)))


def domains_of(campaign: Campaign) -> tuple[str, ...]:
    """``eu.shop.example`` is also blocked by ``shop.example``; a bare top-level domain blocks none.

    Exchanges name a domain with and without ``www.``; both are meant.
    """
    parts = campaign.advertiser_domain.removeprefix("www.").split(".")
    parents = [".".join(parts[i:]) for i in range(len(parts) - 1)]
    return (*parents, *(f"www.{parent}" for parent in parents))
