import datetime

import pytest

from creatives.compliance import Kind, Pack, Rule, load_packs, shipped_packs
from creatives.compliance.matching import spans, unknown_codes
from market.errors import BadInput

RULES = [(pack, rule) for pack in shipped_packs() for rule in pack.rules]
IDS = [rule.id for _, rule in RULES]

PACK = """
name = "test"
owner = "me"
note = "a pack for tests"
checked_on = 2026-11-22

[[rules]]
id = "T-1"
version = 1
title = "no"
kind = "lexicon"
severity = "block"
fields = ["headline"]
source_url = "https://law.example/1"
checked_on = 2026-11-22
owner = "me"
cure = "change it"
terms = ["bad"]
[rules.examples]
positive = ["bad"]
negative = ["good"]
"""


def finds(pack: Pack, rule: Rule, example: str) -> bool:
    if rule.kind is Kind.METADATA:
        return bool(unknown_codes(rule, tuple(int(code) for code in example.split(","))))
    return bool(spans(rule, example, pack.folding))


@pytest.mark.parametrize(("pack", "rule"), RULES, ids=IDS)
def test_every_shipped_rule_finds_its_positive_examples(pack, rule):
    assert rule.examples.positive
    for example in rule.examples.positive:
        assert finds(pack, rule, example), example


@pytest.mark.parametrize(("pack", "rule"), RULES, ids=IDS)
def test_every_shipped_rule_passes_its_negative_and_exception_examples(pack, rule):
    assert rule.examples.negative
    for example in (*rule.examples.negative, *rule.examples.exception):
        assert not finds(pack, rule, example), example


@pytest.mark.parametrize(("pack", "rule"), RULES, ids=IDS)
def test_every_shipped_lexicon_rule_finds_each_of_its_terms_and_excuses_each_exception(pack, rule):
    for term in rule.terms:
        assert spans(rule, f"\u2014{term}\u2014", pack.folding), term
    for exception in rule.exceptions:
        assert not spans(rule, exception, pack.folding), exception
        excused = [term for term in rule.terms if term in exception]
        assert excused or rule.pattern, f"{exception} excuses nothing"


@pytest.mark.parametrize(("pack", "rule"), RULES, ids=IDS)
def test_every_shipped_rule_has_source_date_and_owner(pack, rule):
    assert rule.source_url.startswith("https://")
    assert datetime.date(2026, 1, 1) <= rule.checked_on <= pack.checked_on
    assert rule.owner
    assert rule.cure


def test_the_law_of_superlatives_ships_with_exceptions():
    (rule,) = (rule for _, rule in RULES if rule.id == "CN-ADLAW-9")
    assert len(rule.terms) == 4
    assert len(rule.examples.exception) >= 3


def test_areas_that_nobody_looked_up_ship_empty_and_say_so():
    unchecked = [pack for pack in shipped_packs() if pack.checked_on is None]
    assert {vertical for pack in unchecked for vertical in pack.verticals} == {
        "alcohol",
        "children",
        "finance",
        "gambling",
        "health",
        "religion",
        "tobacco",
    }
    assert all(not pack.rules and "not looked up" in pack.note for pack in unchecked)


def test_a_valid_pack_is_loaded(tmp_path):
    (tmp_path / "a.toml").write_text(PACK)
    (pack,) = load_packs(tmp_path)
    assert pack.rules[0].id == "T-1"
    assert pack.rules[0].checked_on == datetime.date(2026, 11, 22)


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ('terms = ["bad"]', "", "lacks what that kind looks for"),
        ('kind = "lexicon"', 'kind = "image"', "kind"),
        ('kind = "lexicon"', 'kind = "metadata"', "lacks what that kind"),
        ('"https://law.example/1"', '"hearsay"', "source_url"),
        ('positive = ["bad"]', "positive = []", "positive"),
        ('cure = "change it"', "", "cure"),
        ('fields = ["headline"]', 'fields = ["attributes"]', "looks at"),
        ('fields = ["headline"]', "fields = []", "looks at"),
        ('terms = ["bad"]', 'terms = ["bad"]\nexceptions = ["bad luck"]', "example of one"),
        ('terms = ["bad"]', 'terms = ["bad"]\npattern = "("', "regular expression"),
        ('id = "T-1"', 'id = "T-1"\nterm = ["typo"]', "term"),
        ("note =", "note", "line 4"),
        ('note = "a pack for tests"\nchecked_on = 2026-11-22', 'note = ""', "or neither"),
    ],
)
def test_a_pack_with_a_broken_rule_is_refused_with_file_and_reason(tmp_path, old, new, rule):
    assert old in PACK
    (tmp_path / "broken.toml").write_text(PACK.replace(old, new, 1))
    with pytest.raises(BadInput, match=r"rule pack broken\.toml is not valid") as caught:
        load_packs(tmp_path)
    assert rule in str(caught.value)


def test_an_empty_pack_must_say_what_it_is_about(tmp_path):
    (tmp_path / "empty.toml").write_text('name = "x"\nowner = "me"\nnote = "?"\n')
    with pytest.raises(BadInput, match="which verticals"):
        load_packs(tmp_path)


def test_an_id_is_used_once_across_packs(tmp_path):
    (tmp_path / "a.toml").write_text(PACK)
    (tmp_path / "b.toml").write_text(PACK)
    with pytest.raises(BadInput, match=r"'T-1' is in a\.toml and b\.toml"):
        load_packs(tmp_path)
