import itertools

import msgspec
import pytest

from creatives.geometry import STANDARD_SIZES, Size
from creatives.layout import Emphasis, LayoutKind
from creatives.palette import PaletteKind
from creatives.variants import (
    Attributes,
    HeadlineForm,
    Variant,
    designs,
    spread,
    variant_of,
    variants,
)
from market.errors import BadInput

SIZE = Size(300, 250)


def chosen(brief, count: int) -> list[Attributes]:
    return [design[0].attributes for design in variants(brief, (SIZE,), count)]


def test_designs_are_every_combination_once(brief):
    made = designs(brief)
    assert len(made) == len(set(made)) == 3 * 4 * 3 * 3
    assert made[0] == Attributes(
        HeadlineForm.WRITTEN, PaletteKind.BRAND, LayoutKind.SPLIT, Emphasis.PRODUCT
    )


def test_without_a_price_nothing_is_made_of_it(brief):
    product = msgspec.structs.replace(brief.product, price_micros=0)
    made = designs(msgspec.structs.replace(brief, product=product))
    assert Emphasis.PRICE not in {one.emphasis for one in made}
    assert HeadlineForm.PRICED not in {one.headline for one in made}


def test_a_headline_that_is_the_name_is_offered_once(brief):
    made = designs(msgspec.structs.replace(brief, headline=brief.product.name))
    assert HeadlineForm.NAMED not in {one.headline for one in made}


def test_the_first_three_variants_differ_in_every_attribute(brief):
    for one, other in itertools.combinations(chosen(brief, 3), 2):
        assert one.distance(other) == 4


def test_a_dozen_variants_cover_every_level_of_every_attribute(brief):
    made = chosen(brief, 12)
    assert {one.headline for one in made} == set(HeadlineForm)
    assert {one.palette for one in made} == set(PaletteKind)
    assert {one.layout for one in made} == set(LayoutKind)
    assert {one.emphasis for one in made} == set(Emphasis)
    assert min(one.distance(other) for one, other in itertools.combinations(made, 2)) >= 2


def test_more_variants_only_add_to_fewer(brief):
    assert chosen(brief, 20)[:5] == chosen(brief, 5)


def test_each_next_design_is_one_that_differs_most(brief):
    # The definition, spelled out: no candidate left is farther from its nearest predecessor.
    candidates = designs(brief)
    order = list(itertools.islice(spread(candidates, lambda _: True), 15))
    for index in range(1, len(order)):
        before = order[:index]
        reached = min(order[index].distance(one) for one in before)
        best = max(
            min(candidate.distance(one) for one in before)
            for candidate in candidates
            if candidate not in before
        )
        assert reached == best


def test_every_design_is_made_in_every_size_with_a_key_of_its_own(brief):
    made = variants(brief, STANDARD_SIZES, 4)
    assert [[one.size for one in design] for design in made] == [list(STANDARD_SIZES)] * 4
    keys = [one.creative_key for design in made for one in design]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in keys)
    for design in made:
        assert len({one.attributes for one in design}) == 1


def test_a_key_depends_on_everything_that_is_drawn(brief):
    plain = designs(brief)[0]
    key = variant_of(brief, SIZE, plain).creative_key
    assert variant_of(brief, SIZE, plain).creative_key == key
    for other in (
        msgspec.structs.replace(brief, headline="Other"),
        msgspec.structs.replace(brief, body="Other"),
        msgspec.structs.replace(brief, brand_colour="#123456"),
        msgspec.structs.replace(
            brief, product=msgspec.structs.replace(brief.product, price_micros=1_000_000)
        ),
    ):
        assert variant_of(other, SIZE, plain).creative_key != key
    assert variant_of(brief, Size(320, 50), plain).creative_key != key


def test_headline_forms_hold_only_words_of_the_brief(brief):
    texts = {
        form: variant_of(
            brief, SIZE, msgspec.structs.replace(designs(brief)[0], headline=form)
        ).brief.headline
        for form in HeadlineForm
    }
    assert texts == {
        HeadlineForm.WRITTEN: "Run dry when the rain doesn't stop",
        HeadlineForm.NAMED: "Strider Rain Runner",
        HeadlineForm.PRICED: "Strider Rain Runner: $89",
    }


def test_a_design_that_does_not_fit_in_one_size_is_passed_over(brief):
    def narrow(variant: Variant) -> None:
        if variant.attributes.headline is HeadlineForm.PRICED and variant.size.width < 320:
            msg = "too long"
            raise BadInput(msg)

    made = variants(brief, (SIZE, Size(970, 250)), 10, narrow)
    assert HeadlineForm.PRICED not in {design[0].attributes.headline for design in made}


def test_a_headline_of_the_brief_that_fits_nowhere_is_an_error_not_an_omission(brief):
    def only_names(variant: Variant) -> None:
        if variant.attributes.headline is HeadlineForm.WRITTEN:
            msg = "headline is too long"
            raise BadInput(msg, "/headline")

    with pytest.raises(BadInput, match="headline is too long") as caught:
        variants(brief, (SIZE,), 2, only_names)
    assert caught.value.pointer == "/headline"


def test_more_designs_than_there_are_is_refused(brief):
    with pytest.raises(BadInput, match="count is 109; of 108 designs of this brief only 108"):
        variants(brief, (SIZE,), 109)


@pytest.mark.parametrize(("sizes", "count"), [((), 1), ((SIZE, SIZE), 1), ((SIZE,), 0)])
def test_no_sizes_a_size_twice_or_no_count_is_refused(brief, sizes, count):
    with pytest.raises(BadInput):
        variants(brief, sizes, count)


def test_a_variant_survives_the_way_through_json(brief):
    variant = variant_of(brief, SIZE, designs(brief)[7])
    assert msgspec.json.decode(msgspec.json.encode(variant), type=Variant) == variant
