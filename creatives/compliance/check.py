"""The gate: every rule that applies to a creative, run over its words and attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from creatives.compliance.matching import spans, unknown_codes
from creatives.compliance.rules import Field, Kind, Pack, Rule, Severity, shipped_packs

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from creatives.brief import Brief


class Finding(msgspec.Struct, frozen=True):
    """One place where a creative breaks a rule.

    Attributes:
        rule_id: which rule; ``unchecked:<pack>`` where an area has no rules yet.
        rule_version: which wording of it; 0 where there is none.
        severity: what it asks for.
        field: where; None when the whole creative is meant.
        start: first code point of the matched text in the field.
        end: the one after its last.
        matched: that text, or the codes.
        message: what is wrong, in one line.
        cure: what the advertiser can do.
        source_url: where the rule is stated; "" where there is none.
    """

    rule_id: str
    rule_version: int
    severity: Severity
    field: Field | None
    start: int
    end: int
    matched: str
    message: str
    cure: str
    source_url: str


def check(
    brief: Brief,
    jurisdiction: str,
    *,
    platform: str = "",
    vertical: str = "",
    attributes: tuple[int, ...] = (),
    evidence: AbstractSet[str] = frozenset(),
    packs: tuple[Pack, ...] | None = None,
) -> tuple[Finding, ...]:
    """Every finding on a brief where it is to run; none means that no rule we have objects.

    Args:
        brief: the words; its language decides which rules of a language apply.
        jurisdiction: ISO 3166 code of where it is shown.
        platform: where it is shown, such as ``openrtb``, ``google``, ``tiktok``.
        vertical: what is sold, such as ``gambling``; an area without rules asks for a person.
        attributes: the OpenRTB creative attributes the creative declares.
        evidence: ids of rules for which the advertiser's evidence is on file and was accepted.
        packs: the rules; those that ship by default.
    """
    findings: list[Finding] = []
    for pack in shipped_packs() if packs is None else packs:
        if pack.checked_on is None and vertical in pack.verticals:
            findings.append(_unchecked(pack, vertical))
        for rule in pack.rules:
            if not _applies(rule, brief, jurisdiction, platform, vertical):
                continue
            if rule.is_lifted_by_evidence and rule.id in evidence:
                continue
            if rule.kind is Kind.METADATA:
                findings += _code_findings(rule, attributes)
            else:
                findings += _text_findings(rule, brief, pack)
    return tuple(findings)


def _applies(rule: Rule, brief: Brief, jurisdiction: str, platform: str, vertical: str) -> bool:
    return all(
        not scope or value in scope
        for scope, value in (
            (rule.jurisdictions, jurisdiction),
            (rule.platforms, platform),
            (rule.verticals, vertical),
            (rule.langs, brief.language),
        )
    )


def _text_findings(rule: Rule, brief: Brief, pack: Pack) -> list[Finding]:
    texts = {
        Field.HEADLINE: brief.headline,
        Field.BODY: brief.body,
        Field.CALL_TO_ACTION: brief.call_to_action,
        Field.BRAND: brief.product.brand,
        Field.PRODUCT_NAME: brief.product.name,
    }
    return [
        _finding(rule, field, span, texts[field][span[0] : span[1]])
        for field in rule.fields
        for span in spans(rule, texts[field], pack.folding)
    ]


def _code_findings(rule: Rule, attributes: tuple[int, ...]) -> list[Finding]:
    return [
        _finding(rule, Field.ATTRIBUTES, (0, 0), str(code))
        for code in unknown_codes(rule, attributes)
    ]


def _finding(rule: Rule, field: Field, span: tuple[int, int], matched: str) -> Finding:
    return Finding(
        rule_id=rule.id,
        rule_version=rule.version,
        severity=rule.severity,
        field=field,
        start=span[0],
        end=span[1],
        matched=matched,
        message=f"{field} {matched!r}: {rule.title} ({rule.id} v{rule.version})",
        cure=rule.cure,
        source_url=rule.source_url,
    )


def _unchecked(pack: Pack, vertical: str) -> Finding:
    return Finding(
        rule_id=f"unchecked:{pack.name}",
        rule_version=0,
        severity=Severity.REVIEW,
        field=None,
        start=0,
        end=0,
        matched="",
        message=f"vertical {vertical!r}: nobody has looked up its rules yet ({pack.name})",
        cure="have a person who knows the rules of this vertical approve the creative",
        source_url="",
    )
