"""The first tables: advertisers, keys, campaigns and their changes, sequences, intent.

Going back is a restored backup: a step down would drop what advertisers have asked for.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Goes from an empty database to 0001."""
    op.create_table(
        "advertisers",
        sa.Column("advertiser_id", _INT64, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at_ms", _INT64, nullable=False),
        sa.PrimaryKeyConstraint("advertiser_id", name="pk_advertisers"),
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.Text(), nullable=False),
        _advertiser(),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at_ms", _INT64, nullable=False),
        sa.Column("revoked_at_ms", _INT64, nullable=True),
        sa.PrimaryKeyConstraint("key_id", name="pk_api_keys"),
        _advertiser_exists("api_keys"),
    )
    op.create_index("ix_api_keys_advertiser_id", "api_keys", ["advertiser_id"])
    op.create_table(
        "campaigns",
        sa.Column("campaign_id", _INT64, autoincrement=False, nullable=False),
        _advertiser(),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("version", _INT64, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at_ms", _INT64, nullable=False),
        sa.Column("changed_at_ms", _INT64, nullable=False),
        sa.CheckConstraint(
            "campaign_id BETWEEN 1 AND 4294967295", name=op.f("ck_campaigns_id_is_uint32")
        ),
        sa.CheckConstraint("version >= 1", name=op.f("ck_campaigns_version_counts")),
        sa.PrimaryKeyConstraint("campaign_id", name="pk_campaigns"),
        _advertiser_exists("campaigns"),
    )
    op.create_index(
        "ix_campaigns_advertiser_id_campaign_id", "campaigns", ["advertiser_id", "campaign_id"]
    )
    op.create_table(
        "line_items",
        sa.Column("line_item_id", _INT64, autoincrement=False, nullable=False),
        sa.Column("campaign_id", _INT64, nullable=False),
        sa.PrimaryKeyConstraint("line_item_id", name="pk_line_items"),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.campaign_id"], name="fk_line_items_campaign_id"
        ),
    )
    op.create_index("ix_line_items_campaign_id", "line_items", ["campaign_id"])
    op.create_table(
        "change_events",
        sa.Column("change_id", _INT64, nullable=False),
        sa.Column("campaign_id", _INT64, nullable=False),
        _advertiser(),
        sa.Column("at_ms", _INT64, nullable=False),
        sa.Column("actor_kind", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("version", _INT64, nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("change_id", name="pk_change_events"),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.campaign_id"], name="fk_change_events_campaign_id"
        ),
        _advertiser_exists("change_events"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_change_events_campaign_id_change_id", "change_events", ["campaign_id", "change_id"]
    )
    op.create_table(
        "idempotency_records",
        _advertiser(),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.Text(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("advertiser_id", "idempotency_key", name="pk_idempotency_records"),
        _advertiser_exists("idempotency_records"),
    )
    sequences = op.create_table(
        "sequences",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("next_id", _INT64, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_sequences"),
    )
    intent = op.create_table(
        "intent",
        sa.Column("intent_id", _INT64, autoincrement=False, nullable=False),
        sa.Column("version", _INT64, nullable=False),
        sa.CheckConstraint("intent_id = 1", name=op.f("ck_intent_one_row")),
        sa.PrimaryKeyConstraint("intent_id", name="pk_intent"),
    )
    names = ("campaign", "line_item", "creative")
    op.bulk_insert(sequences, [{"name": name, "next_id": 1} for name in names])
    # Version 0 means that nothing was ever published, so a store begins with 1.
    op.bulk_insert(intent, [{"intent_id": 1, "version": 1}])
    if op.get_context().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER change_events_refuse_{verb.lower()} "
                f"BEFORE {verb} ON change_events "
                "BEGIN SELECT RAISE(ABORT, 'change_events is append-only'); END"
            )


def _advertiser() -> sa.Column[int]:
    return sa.Column("advertiser_id", _INT64, nullable=False)


def _advertiser_exists(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["advertiser_id"], ["advertisers.advertiser_id"], name=f"fk_{table}_advertiser_id"
    )
