"""What law and platforms say of a text, as data: rule packs, and one check over them.

A rule is a line of a dated, sourced data file, never of code. A finding names the rule, its
version, the matched span and how to cure it. Nothing here is legal advice, and an area that nobody
has looked up ships as an empty pack, which asks for a person instead of letting things pass.
"""

from creatives.compliance.check import Finding, check
from creatives.compliance.rules import (
    Counting,
    Examples,
    Field,
    Kind,
    Pack,
    Rule,
    Severity,
    load_packs,
    shipped_packs,
)

__all__ = [
    "Counting",
    "Examples",
    "Field",
    "Finding",
    "Kind",
    "Pack",
    "Rule",
    "Severity",
    "check",
    "load_packs",
    "shipped_packs",
]
