import pytest

from creatives import Brief, Category, FontBook, Product


@pytest.fixture(scope="session")
def fonts() -> FontBook:
    return FontBook.shipped()


@pytest.fixture(scope="session")
def brief() -> Brief:
    return Brief(
        product=Product(
            name="Strider Rain Runner",
            brand="Northpeak",
            landing_url="https://shop.example/strider?from=ad&size=42",
            price_micros=89_000_000,
            currency="USD",
            category=Category.FOOTWEAR,
        ),
        headline="Run dry when the rain doesn't stop",
        body="A waterproof road shoe that still breathes. Free returns for 60 days.",
        call_to_action="Shop now",
        brand_colour="#1f6f54",
    )
