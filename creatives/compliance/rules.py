"""Rules and packs: their types, and the loader of their data files.

A pack is one TOML file: who owns it, when it was checked, what it is for, and its rules. A pack for
an area that nobody has looked up has no rules and no date.
"""

from __future__ import annotations

import datetime
import re
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

import msgspec

from market.errors import BadInput

PACK_FOLDER = Path(__file__).parent / "packs"
"""The packs that ship."""


class Kind(StrEnum):
    """How a rule looks at a creative.

    Rules on images and on evidence beside the text come with the code that runs them: a rule that
    nothing runs would only look like protection.
    """

    LEXICON = "lexicon"
    """Terms that must not occur, less listed exceptions."""
    REGEX = "regex"
    """A pattern that must not occur, less listed exceptions."""
    LENGTH = "length"
    """A text's length must lie in a range."""
    METADATA = "metadata"
    """Declared OpenRTB creative attributes must be known codes."""


class Severity(StrEnum):
    """What a finding asks for."""

    BLOCK = "block"
    """Must not be shown."""
    REVIEW = "review"
    """A person decides."""
    WARN = "warn"
    """May be shown; somebody should know."""
    AUTOFIX = "autofix"
    """The renderer can cure it."""


class Field(StrEnum):
    """What of a creative a rule looks at."""

    HEADLINE = "headline"
    BODY = "body"
    CALL_TO_ACTION = "call_to_action"
    BRAND = "brand"
    PRODUCT_NAME = "product_name"
    ATTRIBUTES = "attributes"


TEXT_FIELDS = tuple(field for field in Field if field is not Field.ATTRIBUTES)
"""The fields that hold words."""


class Counting(StrEnum):
    """What a length counts."""

    CODE_POINTS = "code_points"
    EAST_ASIAN_WIDTH = "east_asian_width"
    """Wide and full-width characters count two (Unicode annex 11)."""


class Examples(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Texts that show what a rule does; the tests run them.

    For metadata rules a text is a list of codes: ``1, 16``.

    Attributes:
        positive: must be found.
        negative: must not be found.
        exception: hold a term or look like it, and must not be found.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    exception: tuple[str, ...] = ()


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule. Empty scopes (jurisdictions, platforms, verticals, langs) mean everywhere.

    Attributes:
        id: stable name, ``CN-ADLAW-9``.
        version: rises with every change of meaning.
        title: what it forbids or asks, in one line.
        kind: how it looks.
        severity: what a finding asks for.
        fields: what it looks at.
        source_url: where the rule is stated.
        also_see: further sources.
        checked_on: when somebody last compared the rule with its source.
        owner: who keeps it up to date.
        cure: what the advertiser can do.
        jurisdictions: ISO 3166 codes, or ``EU``.
        platforms: where the creative is to run.
        verticals: what is sold.
        langs: ISO 639 codes of the creative's language.
        terms: of a lexicon rule.
        pattern: of a regex rule.
        exceptions: texts inside which a match does not count.
        length_min: of a length rule.
        length_max: of a length rule.
        counting: of a length rule.
        codes: of a metadata rule, the known ones.
        vendor_codes_from: of a metadata rule, codes from here on are the vendor's business.
        is_lifted_by_evidence: whether an advertiser's evidence on file settles a finding.
        examples: what the tests run.
    """

    id: str
    version: int
    title: str
    kind: Kind
    severity: Severity
    fields: tuple[Field, ...]
    source_url: str
    checked_on: datetime.date
    owner: str
    cure: str
    examples: Examples
    also_see: tuple[str, ...] = ()
    jurisdictions: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    verticals: tuple[str, ...] = ()
    langs: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    pattern: str = ""
    exceptions: tuple[str, ...] = ()
    length_min: int = 0
    length_max: int = 0
    counting: Counting = Counting.CODE_POINTS
    codes: tuple[int, ...] = ()
    vendor_codes_from: int = 0
    is_lifted_by_evidence: bool = False

    def __post_init__(self) -> None:
        """Raises BadInput when the rule lacks what its kind, its source or its tests need."""
        needed = {
            Kind.LEXICON: bool(self.terms),
            Kind.REGEX: bool(self.pattern),
            Kind.LENGTH: self.length_max >= max(1, self.length_min),
            Kind.METADATA: bool(self.codes) and self.fields == (Field.ATTRIBUTES,),
        }
        if not needed[self.kind]:
            msg = f"rule {self.id!r} is of kind {self.kind} and lacks what that kind looks for"
            raise BadInput(msg)
        if not self.fields or (self.kind is not Kind.METADATA and Field.ATTRIBUTES in self.fields):
            msg = f"rule {self.id!r} of kind {self.kind} looks at {list(self.fields)}; it cannot"
            raise BadInput(msg)
        if not self.source_url.startswith("https://") or not self.owner or self.version < 1:
            msg = f"rule {self.id!r} needs an https source_url, an owner and a version >= 1"
            raise BadInput(msg)
        if not self.examples.positive or not self.examples.negative:
            msg = f"rule {self.id!r} needs a positive and a negative example"
            raise BadInput(msg)
        if self.exceptions and not self.examples.exception:
            msg = f"rule {self.id!r} has exceptions; it needs an example of one"
            raise BadInput(msg)
        try:
            re.compile(self.pattern)
        except re.error as error:
            msg = (
                f"rule {self.id!r}: pattern {self.pattern!r} is not a regular expression ({error})"
            )
            raise BadInput(msg) from error


class Pack(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The rules of one area.

    Attributes:
        name: of the area.
        owner: who keeps the pack.
        note: what it covers and what not.
        checked_on: when it was last looked up; None for an area that nobody has looked up, whose
            creatives go to a person.
        verticals: what an unchecked pack is about; rules carry their own scope.
        folding: characters taken for others before matching: variant on the left, as written in
            terms on the right.
        rules: the rules.
    """

    name: str
    owner: str
    note: str
    checked_on: datetime.date | None = None
    verticals: tuple[str, ...] = ()
    folding: dict[str, str] = {}
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        """Raises BadInput when an unchecked pack has rules, or a checked one has none."""
        if bool(self.rules) != (self.checked_on is not None):
            msg = f"pack {self.name!r} must have rules and a checked_on date, or neither"
            raise BadInput(msg)
        if self.checked_on is None and not self.verticals:
            msg = f"pack {self.name!r} has no rules; it must say which verticals it is about"
            raise BadInput(msg)
        if any(len(one) != 1 or len(other) != 1 for one, other in self.folding.items()):
            msg = f"pack {self.name!r}: folding must map one character to one"
            raise BadInput(msg)


def load_packs(folder: Path) -> tuple[Pack, ...]:
    """Every pack of a folder, in the order of file names.

    Raises:
        BadInput: a file is no pack (the message names it), or two rules share an id.
    """
    packs: list[Pack] = []
    seen: dict[str, str] = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            pack = msgspec.toml.decode(path.read_bytes(), type=Pack)
        except (msgspec.DecodeError, UnicodeDecodeError, BadInput) as error:
            msg = f"rule pack {path.name} is not valid: {error}"
            raise BadInput(msg) from error
        for rule in pack.rules:
            if rule.id in seen:
                msg = f"rule {rule.id!r} is in {seen[rule.id]} and {path.name}; an id is used once"
                raise BadInput(msg)
            seen[rule.id] = path.name
        packs.append(pack)
    return tuple(packs)


@lru_cache(maxsize=1)
def shipped_packs() -> tuple[Pack, ...]:
    """The packs that ship with the room."""
    return load_packs(PACK_FOLDER)
