"""The campaign store: advertisers, their keys and campaigns, every change, the intent's version.

What is stored is the document of ``market.campaign.Campaign`` as it is; columns beside it exist
only to find it. Ids of campaigns, line items and creatives come from sequences here and are never
reused, because events carry them for ever. ``campaigns/migrations`` makes the tables, nobody else.

This module knows rows and transactions; who may change what, and what a change does, is in
``campaigns.changes``.
"""

from __future__ import annotations

import enum
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import (
    URL,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Text,
    create_engine,
    event,
    select,
    update,
)
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import TypeDecorator

from market.campaign import Campaign, Status
from market.errors import Corrupt

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine.interfaces import Dialect

ID_MAX = 2**32 - 1
"""Ids are uint32 in events and snapshots."""

BUSY_TIMEOUT_MS = 5_000
"""How long a writer waits for another; writes take milliseconds."""

MIGRATIONS_FOLDER = Path(__file__).parent / "migrations"


class Role(enum.StrEnum):
    """What an API key may do within its advertiser."""

    EDITOR = "editor"
    """Reads and changes campaigns."""
    VIEWER = "viewer"
    """Reads."""


class SequenceName(enum.StrEnum):
    """What has ids of its own."""

    CAMPAIGN = "campaign"
    LINE_ITEM = "line_item"
    CREATIVE = "creative"


class CampaignDocument(TypeDecorator[Campaign]):
    """A column that holds a ``market.campaign.Campaign`` as JSON: integers stay exact."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Campaign | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - the base names it
        """Returns the document as text."""
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Campaign | None:  # noqa: ARG002
        """Returns the campaign in a stored text; raises Corrupt when it is none."""
        if value is None:
            return None
        try:
            return msgspec.json.decode(value, type=Campaign)
        except msgspec.MsgspecError as error:
            raise Corrupt(
                f"campaign store: a stored campaign is damaged ({error}); restore the database"
            ) from error


class Base(DeclarativeBase):
    """All tables; constraints are named so that migrations can speak of them."""

    # SQLite numbers rows only where the type is INTEGER, which holds 64 bits there.
    type_annotation_map = {int: BigInteger().with_variant(Integer(), "sqlite")}  # noqa: RUF012
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )


class Advertiser(Base):
    """Who owns campaigns and keys."""

    __tablename__ = "advertisers"

    advertiser_id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    created_at_ms: Mapped[int]


class ApiKey(Base):
    """One key of one advertiser; only the hash of its secret is kept."""

    __tablename__ = "api_keys"

    key_id: Mapped[str] = mapped_column(Text, primary_key=True)
    secret_sha256: Mapped[str] = mapped_column(Text)
    advertiser_id: Mapped[int] = mapped_column(ForeignKey("advertisers.advertiser_id"), index=True)
    role: Mapped[str] = mapped_column(Text)
    created_at_ms: Mapped[int]
    revoked_at_ms: Mapped[int | None]


class StoredCampaign(Base):
    """The current document of one campaign."""

    __tablename__ = "campaigns"
    __table_args__ = (
        CheckConstraint("campaign_id BETWEEN 1 AND 4294967295", "id_is_uint32"),
        CheckConstraint("version >= 1", "version_counts"),
        Index("ix_campaigns_advertiser_id_campaign_id", "advertiser_id", "campaign_id"),
    )

    campaign_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    advertiser_id: Mapped[int] = mapped_column(ForeignKey("advertisers.advertiser_id"))
    document: Mapped[Campaign] = mapped_column(CampaignDocument)
    version: Mapped[int]
    status: Mapped[str] = mapped_column(Text)
    created_at_ms: Mapped[int]
    changed_at_ms: Mapped[int]


class StoredLineItem(Base):
    """Which campaign a line item is, or was, a part of: what it spent stays that campaign's."""

    __tablename__ = "line_items"

    line_item_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.campaign_id"), index=True)


class ChangeEvent(Base):
    """One change of one campaign: who, what, from what to what, and why. Never altered."""

    __tablename__ = "change_events"
    __table_args__ = (
        Index("ix_change_events_campaign_id_change_id", "campaign_id", "change_id"),
        {"sqlite_autoincrement": True},
    )

    change_id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.campaign_id"))
    advertiser_id: Mapped[int] = mapped_column(ForeignKey("advertisers.advertiser_id"))
    at_ms: Mapped[int]
    actor_kind: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text)
    version: Mapped[int]
    before: Mapped[Campaign | None] = mapped_column(CampaignDocument)
    after: Mapped[Campaign] = mapped_column(CampaignDocument)
    reason: Mapped[str] = mapped_column(Text)


class IdempotencyRecord(Base):
    """What was answered to a create with an Idempotency-Key; kept as long as the campaign."""

    __tablename__ = "idempotency_records"

    advertiser_id: Mapped[int] = mapped_column(
        ForeignKey("advertisers.advertiser_id"), primary_key=True
    )
    idempotency_key: Mapped[str] = mapped_column(Text, primary_key=True)
    request_sha256: Mapped[str] = mapped_column(Text)
    response: Mapped[Campaign] = mapped_column(CampaignDocument)


class Sequence(Base):
    """The next id of one kind of thing."""

    __tablename__ = "sequences"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    next_id: Mapped[int]


class IntentVersion(Base):
    """One row: how many changes this store has seen."""

    __tablename__ = "intent"
    __table_args__ = (CheckConstraint("intent_id = 1", "one_row"),)

    intent_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int]


class Store:
    """The open database; ``reading`` and ``writing`` hand out its transactions."""

    def __init__(self, engine: Engine) -> None:
        """Takes an engine from ``open_engine`` whose tables are up to date."""
        self._reader = engine
        self._writer = engine.execution_options(is_writer=True)

    @contextmanager
    def reading(self) -> Generator[Session]:
        """Hands out a session that sees one state of the database throughout."""
        with Session(self._reader) as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Generator[Session]:
        """Hands out a session that no other writer overlaps; commits at the end, or rolls back."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Closes every connection."""
        self._reader.dispose()


def open_store(path: Path) -> Store:
    """Opens the database in ``path``, creating it or bringing its tables up to date.

    Raises:
        Corrupt: the file is no database, or was written by a newer build.
    """
    engine = open_engine(path)
    migrate(engine)
    return Store(engine)


def open_engine(path: Path) -> Engine:
    """Returns an engine on the SQLite file ``path``: WAL, durable commits, foreign keys checked."""
    engine = create_engine(URL.create("sqlite", database=str(path)))
    event.listen(engine, "connect", _prepare_connection)
    event.listen(engine, "begin", _begin)
    return engine


def migrate(engine: Engine, revision: str = "head") -> None:
    """Brings the tables to ``revision``.

    Raises:
        Corrupt: the database is damaged or its revision is unknown to this build.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS_FOLDER).replace("%", "%%"))
    try:
        with engine.execution_options(is_writer=True).begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except (CommandError, DatabaseError) as error:
        reason = error.orig if isinstance(error, DatabaseError) else error
        raise Corrupt(
            f"campaign store {engine.url.database}: {reason}; "
            "restore a backup, or run the build that wrote it"
        ) from error


def next_ids(session: Session, name: SequenceName, count: int) -> range:
    """Returns ``count`` ids that were never given out before; gone for good once committed.

    Raises:
        Corrupt: all 2^32 - 1 of them are used up.
    """
    if count == 0:
        return range(0)
    statement = (
        update(Sequence)
        .where(Sequence.name == name.value)
        .values(next_id=Sequence.next_id + count)
        .returning(Sequence.next_id)
    )
    end = session.execute(statement).scalar_one()
    if end - 1 > ID_MAX:
        raise Corrupt(f"campaign store: {name.value} ids are used up (2^32 - 1); start a new store")
    return range(end - count, end)


def bump_intent(session: Session) -> int:
    """Counts one change of the store and returns the new version of the intent."""
    statement = (
        update(IntentVersion)
        .values(version=IntentVersion.version + 1)
        .returning(IntentVersion.version)
    )
    return session.execute(statement).scalar_one()


def intent_of(session: Session) -> tuple[int, tuple[Campaign, ...]]:
    """Returns the version of the intent and all campaigns by ascending id."""
    version = session.execute(select(IntentVersion.version)).scalar_one()
    documents = session.execute(
        select(StoredCampaign.document).order_by(StoredCampaign.campaign_id)
    ).scalars()
    return version, tuple(documents)


def stored(campaign: Campaign, now_ms: int, created_at_ms: int) -> StoredCampaign:
    """Returns the row of a campaign, the columns agreeing with the document."""
    return StoredCampaign(
        campaign_id=campaign.campaign_id,
        advertiser_id=campaign.advertiser_id,
        document=campaign,
        version=campaign.version,
        status=Status(campaign.status).value,
        created_at_ms=created_at_ms,
        changed_at_ms=now_ms,
    )


def _prepare_connection(connection: sqlite3.Connection, _record: object) -> None:
    # sqlite3 would open transactions by itself, and late; ours begin in `_begin`.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later could find that another wrote in between;
    # a writer therefore says so at once and waits its turn.
    is_writer = connection.get_execution_options().get("is_writer", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")
