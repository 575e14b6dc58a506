"""Makes variants of a brief that differ in attributes that matter, and says in which.

A variant's attributes are what learning sees: two variants never share all of them, and the first
few already differ in every one, so that main effects can be told apart early. What this does not
do: it does not choose which variant to show (that is learning's work) and writes no new claims; the
headline forms only rearrange what the brief says, so a checked brief stays checked.
"""

from __future__ import annotations

import hashlib
import itertools
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from creatives.brief import Brief
from creatives.geometry import Size
from creatives.layout import Emphasis, LayoutKind
from creatives.palette import Palette, PaletteKind, palette_of
from creatives.price import price_label
from market.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class HeadlineForm(StrEnum):
    """What the headline is made of."""

    WRITTEN = "written"
    """As the brief has it."""
    NAMED = "named"
    """The product's name."""
    PRICED = "priced"
    """The product's name and its price."""


class Attributes(msgspec.Struct, frozen=True, order=True):
    """What sets one variant of a brief apart; categorical features for learning."""

    headline: HeadlineForm
    palette: PaletteKind
    layout: LayoutKind
    emphasis: Emphasis

    def distance(self, other: Attributes) -> int:
        """In how many attributes the two differ, 0 to 4."""
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return sum(mine != theirs for mine, theirs in pairs)


class Variant(msgspec.Struct, frozen=True):
    """One creative before it is rendered.

    Attributes:
        creative_key: 16 hex digits derived from everything below; equal variants have equal keys.
        brief: the brief with this variant's headline.
        size: the canvas.
        layout: how product and words share it.
        palette: its colours.
        attributes: what sets it apart from its siblings.
    """

    creative_key: str
    brief: Brief
    size: Size
    layout: LayoutKind
    palette: Palette
    attributes: Attributes


def variant_of(brief: Brief, size: Size, attributes: Attributes) -> Variant:
    """The variant of a brief with the given attributes, in a size.

    Raises:
        BadInput: the attributes ask for a price and the brief has none to show.
    """
    shown = msgspec.structs.replace(brief, headline=headline_of(brief, attributes.headline))
    palette = palette_of(brief.brand_colour, attributes.palette)
    identity = msgspec.json.encode((shown, size, palette, attributes))
    return Variant(
        creative_key=hashlib.sha256(identity).hexdigest()[:16],
        brief=shown,
        size=size,
        layout=attributes.layout,
        palette=palette,
        attributes=attributes,
    )


def headline_of(brief: Brief, form: HeadlineForm) -> str:
    """The headline in a form; only ever words and figures of the brief.

    Raises:
        BadInput: the form shows a price and the product has none.
    """
    if form is HeadlineForm.WRITTEN:
        return brief.headline
    if form is HeadlineForm.NAMED:
        return brief.product.name
    product = brief.product
    price = price_label(product.price_micros, product.currency, brief.language)
    if not price:
        msg = "product.price_micros is 0; a headline with a price needs one that is shown"
        raise BadInput(msg, "/product/price_micros")
    return f"{product.name}: {price}"


def designs(brief: Brief) -> tuple[Attributes, ...]:
    """Every combination of attributes that makes sense for a brief; the plainest first.

    Without a price there is nothing to emphasise or put into a headline; a name that is the
    headline already is not offered a second time.
    """
    has_price = brief.product.price_micros > 0
    forms = [HeadlineForm.WRITTEN]
    if brief.product.name != brief.headline:
        forms.append(HeadlineForm.NAMED)
    if has_price:
        forms.append(HeadlineForm.PRICED)
    emphases = [one for one in Emphasis if has_price or one is not Emphasis.PRICE]
    return tuple(
        Attributes(*levels)
        for levels in itertools.product(forms, PaletteKind, LayoutKind, emphases)
    )


def spread(
    candidates: tuple[Attributes, ...], is_usable: Callable[[Attributes], bool]
) -> Iterator[Attributes]:
    """Yields the candidates in an order in which every beginning covers the attributes evenly.

    The next one is that which differs most from its nearest predecessor; among equals, the one
    whose levels have been seen least; among those, the first given. Candidates that are not usable
    are skipped, and are asked about only when their turn comes.

    Source: maximin distance design, Johnson, Moore and Ylvisaker 1990, in its greedy form, with
    Hamming distance.
    """
    left = list(candidates)
    chosen: list[Attributes] = []
    while left:

        def rank(candidate: Attributes) -> tuple[int, int]:
            nearest = min((candidate.distance(other) for other in chosen), default=0)
            levels = msgspec.structs.astuple(candidate)
            seen = sum(
                level == taken
                for other in chosen
                for level, taken in zip(levels, msgspec.structs.astuple(other), strict=True)
            )
            return nearest, -seen

        best = max(left, key=rank)  # max keeps the first among equals
        left.remove(best)
        if is_usable(best):
            chosen.append(best)
            yield best


def variants(
    brief: Brief,
    sizes: tuple[Size, ...],
    count: int,
    check: Callable[[Variant], None] = lambda _variant: None,
) -> tuple[tuple[Variant, ...], ...]:
    """Makes ``count`` designs of a brief, each in every size: [count][sizes].

    Args:
        brief: what to say.
        sizes: canvases; each design is made in all of them, or not at all.
        count: how many designs.
        check: raises BadInput for a variant that cannot be made, for instance because a text does
            not fit; its design is passed over.

    Raises:
        BadInput: ``sizes`` is empty or repeats itself, ``count`` is not positive, the brief's own
            headline fits no design, or fewer than ``count`` designs can be made; the message
            carries the reason.
    """
    if not sizes or len(set(sizes)) != len(sizes):
        listed = ", ".join(map(str, sizes))
        msg = f"sizes are [{listed}]; there must be at least one and none twice"
        raise BadInput(msg, "/sizes")
    if count < 1:
        msg = f"count is {count}; it must be >= 1"
        raise BadInput(msg, "/count")
    refusals: list[BadInput] = []

    def is_usable(attributes: Attributes) -> bool:
        try:
            for size in sizes:
                check(variant_of(brief, size, attributes))
        except BadInput as error:
            refusals.append(error)
            return False
        return True

    candidates = designs(brief)
    chosen = tuple(itertools.islice(spread(candidates, is_usable), count))
    if chosen and chosen[0].headline is not HeadlineForm.WRITTEN:
        # Candidates with the written headline come first, so none of them could be made.
        raise refusals[0]
    if len(chosen) < count:
        reason = f"; last refusal: {refusals[-1]}" if refusals else ""
        msg = (
            f"count is {count}; of {len(candidates)} designs of this brief only {len(chosen)} can "
            f"be made in every size{reason}"
        )
        pointer = refusals[-1].pointer if refusals else "/count"
        raise BadInput(msg, pointer)
    return tuple(tuple(variant_of(brief, size, design) for size in sizes) for design in chosen)
