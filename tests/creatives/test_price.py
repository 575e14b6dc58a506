import pytest

from creatives.price import price_label
from market.errors import BadInput


@pytest.mark.parametrize(
    ("micros", "currency", "language", "label"),
    [
        (0, "USD", "en", ""),
        (49_990_000, "USD", "en", "$49.99"),
        (49_000_000, "USD", "en", "$49"),
        (1_299_500_000, "GBP", "en", "\u00a31,299.50"),
        (49_990_000, "EUR", "de", "49,99\u00a0\u20ac"),
        (1_299_000_000, "EUR", "de", "1.299\u00a0\u20ac"),
        (1_299_000_000, "EUR", "fr", "1\u00a0299\u00a0\u20ac"),
        (5_200_000_000, "JPY", "ja", "\u00a55,200"),
        (12_345_000, "KWD", "en", "KWD\u00a012.345"),
        (50_000, "USD", "en", "$0.05"),
    ],
)
def test_a_price_is_written_in_the_habits_of_the_language(micros, currency, language, label):
    assert price_label(micros, currency, language) == label


def test_a_symbol_that_the_fonts_lack_becomes_the_currency_code():
    assert price_label(49_000_000, "EUR", "en", lambda _: False) == "EUR\u00a049"


@pytest.mark.parametrize(("micros", "currency"), [(49_995_000, "USD"), (5_200_500_000, "JPY")])
def test_a_price_finer_than_the_smallest_coin_is_refused(micros, currency):
    with pytest.raises(BadInput, match="price_micros"):
        price_label(micros, currency, "en")
