"""Bid policies, one variant a file, behind ``policies.bidding.protocol``. Lowest rung first."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from market.errors import BadInput
from policies.bidding import constant, pid

if TYPE_CHECKING:
    from policies.bidding.protocol import BidPolicy

POLICIES: dict[str, BidPolicy] = {
    "constant": cast("BidPolicy", constant),
    "pid": cast("BidPolicy", pid),
}


def policy_named(name: str) -> BidPolicy:
    """Returns the policy of that name.

    Raises:
        BadInput: there is none.
    """
    policy = POLICIES.get(name)
    if policy is None:
        raise BadInput(f"policy '{name}': it must be one of {', '.join(POLICIES)}", "/policy")
    return policy
