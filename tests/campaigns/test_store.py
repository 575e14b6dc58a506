from __future__ import annotations

import sqlite3

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from campaigns.store import (
    Base,
    SequenceName,
    Store,
    intent_of,
    migrate,
    next_ids,
    open_engine,
    open_store,
)
from market.errors import Corrupt


def test_the_migrations_make_exactly_the_tables_of_the_models(tmp_path):
    engine = open_engine(tmp_path / "migrated.sqlite")
    migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []
        migrated = _constraints(connection)
    engine.dispose()
    created_engine = open_engine(tmp_path / "created.sqlite")
    with created_engine.begin() as connection:
        Base.metadata.create_all(connection)
    with created_engine.connect() as connection:
        assert migrated == _constraints(connection)
    created_engine.dispose()


def _constraints(connection):
    inspector = sqlalchemy.inspect(connection)
    return {
        name: (
            inspector.get_pk_constraint(name),
            sorted(inspector.get_foreign_keys(name), key=str),
            sorted(inspector.get_check_constraints(name), key=str),
            sorted(inspector.get_indexes(name), key=str),
        )
        for name in inspector.get_table_names()
        if name != "alembic_version"
    }


def test_opening_a_store_twice_keeps_what_is_in_it(tmp_path):
    path = tmp_path / "campaigns.sqlite"
    first = open_store(path)
    with first.writing() as session:
        assert list(next_ids(session, SequenceName.CREATIVE, 2)) == [1, 2]
    first.close()
    second = open_store(path)
    with second.writing() as session:
        assert list(next_ids(session, SequenceName.CREATIVE, 1)) == [3]
        assert intent_of(session) == (1, ())
    second.close()


def test_ids_of_a_rolled_back_change_were_never_given_out(store: Store):
    def take_one_and_fail():
        with store.writing() as session:
            assert list(next_ids(session, SequenceName.CAMPAIGN, 1)) == [1]
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        take_one_and_fail()
    with store.writing() as session:
        assert list(next_ids(session, SequenceName.CAMPAIGN, 1)) == [1]


def test_sequences_are_independent_and_end_with_uint32(store: Store):
    with store.writing() as session:
        session.execute(
            sqlalchemy.text("UPDATE sequences SET next_id = 4294967295 WHERE name = 'campaign'")
        )
        assert list(next_ids(session, SequenceName.CAMPAIGN, 1)) == [4294967295]
        assert list(next_ids(session, SequenceName.LINE_ITEM, 1)) == [1]
    with pytest.raises(Corrupt, match="used up"), store.writing() as session:
        next_ids(session, SequenceName.CAMPAIGN, 1)


def test_the_database_waits_for_locks_checks_keys_and_commits_durably(tmp_path):
    engine = open_engine(tmp_path / "campaigns.sqlite")
    with engine.connect() as connection:
        pragma = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        }
    engine.dispose()
    # synchronous 2 = FULL
    assert pragma == {
        "journal_mode": "wal", "busy_timeout": 5000, "foreign_keys": 1, "synchronous": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    "statement", ["UPDATE change_events SET reason = 'x'", "DELETE FROM change_events"]
)
def test_change_events_cannot_be_altered(tmp_path, statement):
    open_store(tmp_path / "campaigns.sqlite").close()
    connection = sqlite3.connect(tmp_path / "campaigns.sqlite")
    connection.execute(
        "INSERT INTO change_events (campaign_id, advertiser_id, at_ms, actor_kind, actor, action,"
        " version, after, reason) VALUES (1, 1, 0, 'api_key', 'k', 'create', 1, '{}', '')"
    )
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


def test_a_file_that_is_no_database_is_corrupt(tmp_path):
    path = tmp_path / "campaigns.sqlite"
    path.write_bytes(b"this is no database, it is a sentence of more than a hundred bytes " * 4)
    with pytest.raises(Corrupt, match="restore a backup"):
        open_store(path)


def test_a_database_of_a_newer_build_is_refused(tmp_path):
    path = tmp_path / "campaigns.sqlite"
    open_store(path).close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(Corrupt, match="9999"):
        open_store(path)


def test_a_damaged_document_is_corrupt(store: Store):
    with store.writing() as session:
        session.execute(sqlalchemy.text("INSERT INTO advertisers VALUES (1, 'a', 0)"))
        session.execute(
            sqlalchemy.text(
                "INSERT INTO campaigns VALUES (1, 1, '{\"name\": 5}', 1, 'active', 0, 0)"
            )
        )
    with pytest.raises(Corrupt, match="damaged"), store.reading() as session:
        intent_of(session)
