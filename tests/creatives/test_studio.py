import io

import msgspec
import pytest
from PIL import Image

import creatives
from creatives import STANDARD_SIZES, AssetStore, Category, MediaType, RenderedCreative, Size
from creatives.markup import CLICK_URL_TOKEN, IMPRESSION_URL_TOKEN
from market.errors import BadInput


def files(folder) -> list:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_variants_of_a_brief_are_rendered_stored_and_ready_to_bid(brief, fonts, tmp_path):
    store = AssetStore(tmp_path, base_url="https://cdn.example/assets")
    made = creatives.render_variants(brief, STANDARD_SIZES, 4, store, fonts)
    assert len(made) == 4 * len(STANDARD_SIZES)
    assert [one.variant.size for one in made] == list(STANDARD_SIZES) * 4
    for one in made:
        assert (one.width, one.height) == (one.variant.size.width, one.variant.size.height)
        with Image.open(io.BytesIO(store.get(one.asset.sha256))) as image:
            assert image.size == (one.width, one.height)
        assert f'src="https://cdn.example/assets/{one.asset.sha256}"' in one.adm_template
        assert one.adm_template.count(IMPRESSION_URL_TOKEN) == 1
        assert one.adm_template.count(CLICK_URL_TOKEN) == 1
    assert len({one.asset.sha256 for one in made}) == len(made)  # variants are seen to differ


def test_rendering_again_gives_the_same_creatives_and_stores_nothing_new(brief, fonts, tmp_path):
    store = AssetStore(tmp_path)
    sizes = (Size(300, 250), Size(320, 50))
    first = creatives.render_variants(brief, sizes, 2, store, fonts)
    count = len(files(tmp_path))
    assert creatives.render_variants(brief, sizes, 2, store, fonts) == first
    assert len(files(tmp_path)) == count == 4


def test_nothing_is_stored_when_a_text_does_not_fit(brief, fonts, tmp_path):
    wordy = msgspec.structs.replace(brief, body="word " * 50 + "end")
    with pytest.raises(BadInput, match="body"):
        creatives.render_variants(
            wordy, (Size(1200, 628), Size(300, 250)), 2, AssetStore(tmp_path), fonts
        )
    assert files(tmp_path) == []


@pytest.mark.parametrize("category", Category)
def test_every_category_can_be_advertised_in_every_size(brief, fonts, tmp_path, category):
    product = msgspec.structs.replace(brief.product, category=category)
    made = creatives.render_variants(
        msgspec.structs.replace(brief, product=product),
        STANDARD_SIZES,
        1,
        AssetStore(tmp_path),
        fonts,
    )
    assert len(made) == len(STANDARD_SIZES)


def test_a_brief_in_another_script_is_set_in_the_shipped_fonts(brief, fonts, tmp_path):
    # Greek, with accents that the first face of the chain does not have.
    greek = msgspec.structs.replace(
        brief,
        locale="el",
        headline="\u03a4\u03c1\u03ad\u03be\u03b5 \u03c3\u03c4\u03b7 \u03b2\u03c1\u03bf\u03c7\u03ae",
        body="\u03a0\u03b1\u03c0\u03bf\u03cd\u03c4\u03c3\u03b9",
        call_to_action="\u0391\u03b3\u03bf\u03c1\u03ac",
    )
    made = creatives.render_variants(
        greek, STANDARD_SIZES, 2, AssetStore(tmp_path), fonts, MediaType.PNG
    )
    assert all(one.asset.media_type == "image/png" for one in made)


def test_a_rendered_creative_survives_the_way_through_json(brief, fonts, tmp_path):
    (made,) = creatives.render_variants(brief, (Size(300, 250),), 1, AssetStore(tmp_path), fonts)
    assert msgspec.json.decode(msgspec.json.encode(made), type=RenderedCreative) == made
