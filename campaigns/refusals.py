"""Why the control plane says no: each kind with its HTTP status, one exception for all of them.

Kinds are stable: clients compare the ``type`` of a problem document (RFC 9457), which is the kind's
name. What is ours to mend rather than the caller's (a full disk, a recorder that is away) is
``market.errors.NotReady`` and not here.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from market.errors import BadInput

if TYPE_CHECKING:
    from market.campaign import Problem


class RefusalKind(enum.Enum):
    """A kind of refusal: HTTP status and the title that never changes."""

    MALFORMED_JSON = (400, "The body is no JSON")
    UNAUTHENTICATED = (401, "The API key is missing or not valid")
    FORBIDDEN = (403, "The API key may not do this")
    NOT_FOUND = (404, "There is no such thing")
    METHOD_NOT_ALLOWED = (405, "This method is not allowed here")
    VERSION_MISMATCH = (412, "The campaign has changed in the meantime")
    BODY_TOO_LARGE = (413, "The body is too large")
    UNSUPPORTED_MEDIA_TYPE = (415, "The body is of a type that is not read here")
    INVALID_CAMPAIGN = (422, "The campaign breaks a rule")
    INVALID_REQUEST = (422, "A parameter breaks a rule")
    IDEMPOTENCY_KEY_REUSED = (422, "The Idempotency-Key belongs to another request")
    VERSION_REQUIRED = (428, "If-Match is required")

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.value[0]

    @property
    def title(self) -> str:
        """A sentence for people that is the same for every refusal of this kind."""
        return self.value[1]

    @property
    def type_uri(self) -> str:
        """What clients compare: ``urn:lodestone:problem:`` and the name, with hyphens."""
        return f"urn:lodestone:problem:{self.name.lower().replace('_', '-')}"


class Refusal(BadInput):
    """A request that is refused; nothing was stored.

    Attributes:
        kind: which rule of the API was broken.
        problems: every field that broke a rule, in document order.
    """

    def __init__(self, kind: RefusalKind, detail: str, problems: tuple[Problem, ...] = ()) -> None:
        """Keeps the kind, what happened this time, and the fields."""
        super().__init__(detail, problems[0].pointer if problems else "")
        self.kind = kind
        self.problems = problems


def not_found(campaign_id: object) -> Refusal:
    """Returns the refusal of a campaign that is not there or belongs to another advertiser."""
    return Refusal(RefusalKind.NOT_FOUND, f"campaign {campaign_id}: there is none with this id")


def invalid_campaign(problems: tuple[Problem, ...]) -> Refusal:
    """Returns the refusal of a campaign that breaks at least one rule."""
    assert problems
    count = len(problems)
    rules = "1 rule" if count == 1 else f"{count} rules"
    return Refusal(
        RefusalKind.INVALID_CAMPAIGN,
        f"the campaign breaks {rules}: {'; '.join(map(str, problems))}",
        problems,
    )
