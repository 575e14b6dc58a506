import msgspec
import pytest

from creatives.compliance import Field, Pack, Severity, check, shipped_packs


def in_chinese(brief, headline: str):
    return msgspec.structs.replace(brief, locale="zh-Hans-CN", headline=headline)


def superlative() -> str:
    """A text that the shipped rule must find, from its own examples."""
    return example("CN-ADLAW-9")


def example(rule_id: str) -> str:
    rules = {rule.id: rule for pack in shipped_packs() for rule in pack.rules}
    return rules[rule_id].examples.positive[0]


def ids(findings) -> set[str]:
    return {finding.rule_id for finding in findings}


def test_a_plain_brief_has_no_findings(brief):
    for jurisdiction in ("CN", "US", "DE"):
        assert check(brief, jurisdiction, platform="openrtb", attributes=(21,)) == ()


def test_a_superlative_is_blocked_in_china_and_nowhere_else(brief):
    text = superlative()
    (finding,) = check(in_chinese(brief, text), "CN")
    assert finding.rule_id == "CN-ADLAW-9"
    assert finding.severity is Severity.BLOCK
    assert finding.field is Field.HEADLINE
    assert text[finding.start : finding.end] == finding.matched
    assert finding.matched in finding.message
    assert finding.rule_version == 1
    assert finding.cure
    assert finding.source_url
    assert check(in_chinese(brief, text), "TW") == ()


@pytest.mark.parametrize(
    ("name", "field"),
    [("body", Field.BODY), ("call_to_action", Field.CALL_TO_ACTION)],
)
def test_every_text_of_a_brief_is_looked_at(brief, name, field):
    bad = msgspec.structs.replace(brief, **{name: superlative()})
    assert {finding.field for finding in check(bad, "CN")} == {field}


def test_names_of_brand_and_product_are_looked_at(brief):
    product = msgspec.structs.replace(brief.product, name=superlative(), brand=superlative())
    fields = {
        finding.field for finding in check(msgspec.structs.replace(brief, product=product), "CN")
    }
    assert fields == {Field.BRAND, Field.PRODUCT_NAME}


def test_evidence_on_file_lifts_a_review_but_never_a_block(brief):
    claim = in_chinese(brief, example("CN-SUPERL-2"))
    (finding,) = check(claim, "CN")
    assert finding.severity is Severity.REVIEW
    assert check(claim, "CN", evidence={"CN-SUPERL-2"}) == ()
    blocked = in_chinese(brief, superlative())
    assert ids(check(blocked, "CN", evidence={"CN-ADLAW-9"})) == {"CN-ADLAW-9"}


def test_a_platforms_lengths_apply_on_that_platform_only(brief):
    assert ids(check(brief, "US", platform="google")) == {"RSA-LEN-HEADLINE"}
    assert check(brief, "US", platform="openrtb") == ()
    long = msgspec.structs.replace(brief, call_to_action="Find your nearest shop")
    (finding,) = check(long, "US", platform="openrtb")
    assert (finding.rule_id, finding.severity) == ("ORTB-NATIVE-CTA", Severity.WARN)


def test_an_attribute_that_is_no_code_of_the_list_is_blocked(brief):
    findings = check(brief, "US", attributes=(1, 24, 500))
    assert [(one.rule_id, one.matched) for one in findings] == [("ORTB-ATTR", "24")]


def test_a_vertical_that_nobody_looked_up_asks_for_a_person(brief):
    (finding,) = check(brief, "US", vertical="gambling")
    assert finding.rule_id == "unchecked:gambling"
    assert finding.severity is Severity.REVIEW
    assert finding.field is None
    assert check(brief, "US", vertical="shoes") == ()


def test_a_rule_of_a_language_applies_to_briefs_in_that_language(brief):
    (pack,) = (pack for pack in shipped_packs() if pack.name == "china")
    only_german = Pack(
        name="t",
        owner="me",
        note="n",
        checked_on=pack.checked_on,
        rules=(msgspec.structs.replace(pack.rules[0], langs=("de",), terms=("rain",)),),
    )
    assert check(brief, "CN", packs=(only_german,)) == ()
    german = msgspec.structs.replace(brief, locale="de")
    assert ids(check(german, "CN", packs=(only_german,))) == {"CN-ADLAW-9"}
