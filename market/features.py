"""Hashed features: one definition for the log, training, serving and the twin.

User and context fields are read off an opportunity, ad fields off a creative. Each field has its
own rows in one table; row 0 of a field is trained for "absent", the others are hash buckets.

Dimension names: F = FEATURE_COUNT user and context fields, A = len(AD_FIELDS) ad fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from market.chance import code_of
from market.creative import AD_FIELDS
from market.events import FEATURE_COUNT
from market.kernels import feature_row
from market.opportunity import Dimension

if TYPE_CHECKING:
    from collections.abc import Sequence

    from market.campaign import Campaign, Creative

CONTEXT_DIMENSIONS: tuple[Dimension, ...] = (
    Dimension.COUNTRY,
    Dimension.REGION,
    Dimension.DEVICE_TYPE,
    Dimension.OS,
    Dimension.INVENTORY,
    Dimension.PLACEMENT,
    Dimension.HOUR_OF_WEEK,
    Dimension.GENDER,
    Dimension.AGE_BAND,
)
"""Fields 0..8 of a feature vector; ``market.kernels.context_features`` fills them."""

SEGMENT_FEATURE_COUNT = 3
"""Fields 9..11: the first three audience segments of the user, in the order sent."""

CONTEXT_BUCKETS = 512
"""Rows per user or context field."""

AD_BUCKETS = 256
"""Rows per ad field."""

CONTEXT_ROWS = FEATURE_COUNT * CONTEXT_BUCKETS
AD_ROWS = len(AD_FIELDS) * AD_BUCKETS

assert len(CONTEXT_DIMENSIONS) + SEGMENT_FEATURE_COUNT == FEATURE_COUNT


def ad_features(campaign: Campaign, creative: Creative) -> npt.NDArray[np.uint32]:
    """Returns [A] rows of the ad table for a creative, in the order of AD_FIELDS.

    Category, format and size are known of every creative; the rest comes from its ``features``.
    """
    return ad_feature_rows(ad_field_values(campaign, creative))


def ad_field_values(campaign: Campaign, creative: Creative) -> tuple[str, ...]:
    """Returns the texts of a creative in the order of AD_FIELDS, "" for what it does not have."""
    known = {
        "category": campaign.category,
        "format": creative.format,
        "size": f"{creative.width}x{creative.height}",
    }
    values = {**known, **creative.features}
    return tuple(values.get(field, "") for field in AD_FIELDS)


def ad_feature_rows(values: Sequence[str]) -> npt.NDArray[np.uint32]:
    """Returns [A] rows of the ad table for the texts of AD_FIELDS; "" is absent (row 0)."""
    return np.array(
        [
            feature_row(field, np.uint64(code_of(value) if value else 0), AD_BUCKETS)
            for field, value in enumerate(values)
        ],
        np.uint32,
    )
