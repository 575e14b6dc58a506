"""Campaign files: the catalogue that ships, and those given to ``replay`` and the benches."""

from __future__ import annotations

from pathlib import Path

import msgspec

from market.campaign import Campaign, problems_of
from market.errors import BadInput

SHIPPED_CATALOGUE = Path(__file__).parent / "catalogue.toml"


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of campaigns, with ids given by the file itself."""

    campaigns: tuple[Campaign, ...]


def read_catalogue(path: Path = SHIPPED_CATALOGUE) -> tuple[Campaign, ...]:
    """Returns the campaigns of a TOML or JSON file (``campaigns = [...]``).

    Raises:
        BadInput: the file is missing or unreadable, or a campaign breaks a rule; names which.
    """
    try:
        body = path.read_bytes()
        if path.suffix == ".toml":
            catalogue = msgspec.toml.decode(body, type=Catalogue)
        else:
            catalogue = msgspec.json.decode(body, type=Catalogue)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadInput(f"campaign file {path.name}: {error}") from error
    seen: set[tuple[str, int]] = set()
    for i, campaign in enumerate(catalogue.campaigns):
        problems = problems_of(campaign)
        if problems:
            raise BadInput(f"campaign file {path.name}: /campaigns/{i}{problems[0]}")
        ids = [("campaign_id", campaign.campaign_id)]
        for line_item in campaign.line_items:
            ids.append(("line_item_id", line_item.line_item_id))
            ids.extend(("creative_id", creative.creative_id) for creative in line_item.creatives)
        for name, number in ids:
            if number <= 0 or (name, number) in seen:
                raise BadInput(
                    f"campaign file {path.name}: /campaigns/{i}: {name} {number}; "
                    "must be > 0 and used once in the file"
                )
            seen.add((name, number))
    return catalogue.campaigns
