"""Persons: which users are one, by consent, and which nobody knows.

A user is known by ``user_key``, a keyed hash; two of them are one person only where a consented
identity map says so. Keys are made anew when the salt rotates, and then nothing joins across the
rotation but what the map joins.

An event without a user (key 0) joins nobody. What belongs to one bid still belongs together, since
its notices carry the bid's id: such a bid is a person of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ledger.attribution.kernels import components, dense_codes
from market.errors import BadInput

if TYPE_CHECKING:
    import numpy.typing as npt

    U64 = npt.NDArray[np.uint64]

_UNKNOWN = np.uint64(1 << 63)


class Identity(NamedTuple):
    """Known users and the person that each is, closed over all links.

    Attributes:
        user_key: [U] ascending.
        person: [U] the least user key of the person.
    """

    user_key: U64
    person: U64

    def persons(self, user_key: U64) -> U64:
        """Returns [N] the person of each user; one who is in no link is a person alone."""
        if not self.user_key.shape[0]:
            return user_key
        at = np.minimum(np.searchsorted(self.user_key, user_key), self.user_key.shape[0] - 1)
        return np.where(self.user_key[at] == user_key, self.person[at], user_key)

    def users(self, user_key: int) -> tuple[int, ...]:
        """Returns every user key of the person that a user is."""
        person = self.persons(np.array([user_key], np.uint64))[0]
        return tuple(self.user_key[self.person == person].tolist()) or (user_key,)


NOBODY_LINKED = Identity(np.zeros(0, np.uint64), np.zeros(0, np.uint64))
"""Every user key is a person."""


def identity_of(user_key: U64, person_code: U64) -> Identity:
    """Returns who is who by consented links (user key, person code), over any number of steps.

    A user with two codes joins both, a code with two users joins both.

    Args:
        user_key: [K] only of users who consented to be joined across devices.
        person_code: [K] whatever names the person: a hashed login, a household.

    Raises:
        BadInput: the arrays differ in length, or a user key is 0, which is nobody.
    """
    if user_key.shape != person_code.shape:
        raise BadInput(
            f"identity map: {user_key.shape[0]} user keys and {person_code.shape[0]} person codes; "
            "there must be one code a key"
        )
    if not user_key.all():
        raise BadInput("identity map: user key 0 stands for an unknown user and can join nobody")
    users, user = np.unique(user_key, return_inverse=True)
    codes, code = np.unique(person_code, return_inverse=True)
    count = users.shape[0]
    roots = components(user.astype(np.int64), code.astype(np.int64) + count, count + codes.shape[0])
    # Users are the lower nodes, in ascending order: a root is its person's least user.
    return Identity(users, users[roots[:count]])


def person_groups(
    identity: Identity,
    advertiser_id: npt.NDArray[np.uint32],
    user_key: U64,
    bid_hi: U64,
    bid_lo: U64,
) -> tuple[npt.NDArray[np.int64], int]:
    """Returns [N] the number of each row's (advertiser, person), and how many there are.

    Advertisers never share a group: one does not see, or earn by, what another showed.
    """
    is_known = user_key != 0
    high = np.where(is_known, advertiser_id.astype(np.uint64), bid_hi | _UNKNOWN)
    low = np.where(is_known, identity.persons(user_key), bid_lo)
    codes, seen_at = dense_codes(high, low)
    return codes, seen_at.shape[0]
