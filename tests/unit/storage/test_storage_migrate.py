"""Migrations, compared with the tables in code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory

from audit.repo_audit import recount_stats
from storage import migrate
from storage.collections import COLLECTION_IDS, LINK_PARTITIONS, PATHS
from storage.postgres.pool import Conn
from storage.schema import RECORD_PARTITIONS


@pytest.mark.parametrize("name", ["index", "private", "pds", "plc"])
def test_tables_equal_migrations(empty_database: str, name: str) -> None:
    migrate.upgrade(empty_database, name)
    assert migrate.check(empty_database, name) == []
    assert migrate.current(empty_database, name) == migrate.head(name)


def test_check_sees_a_difference(make_database: Callable[[str], str]) -> None:
    index_db = make_database("index")
    with psycopg.connect(index_db) as conn:
        conn.execute("ALTER TABLE repo DROP COLUMN rev")
        conn.execute("DROP INDEX post_sort_at_idx")
    differences = migrate.check(index_db, "index")
    assert any("rev" in difference for difference in differences)
    assert any("post_sort_at_idx" in difference for difference in differences)


def test_upgrade_twice_changes_nothing(index_db: str) -> None:
    migrate.upgrade(index_db, "index")
    assert migrate.check(index_db, "index") == []


def test_missing_module_of_a_target_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(migrate.TARGETS, "pds", ("pds.tabels",))
    with pytest.raises(ModuleNotFoundError, match=r"pds\.tabels"):
        migrate.merged_metadata("pds")


def schema_of(connection: sa.Connection) -> set[tuple[str, ...]]:
    """Return every column, constraint, index and sequence."""
    queries = (
        "SELECT 'column', attrelid::regclass::text, attname,"
        " format_type(atttypid, atttypmod), attnotnull::text, attstorage::text,"
        " COALESCE(pg_get_expr(adbin, adrelid), '')"
        " FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
        " LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        " WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p')"
        " AND relnamespace = 'public'::regnamespace",
        "SELECT 'constraint', conrelid::regclass::text, conname,"
        " pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace",
        "SELECT 'index', tablename, indexname, indexdef FROM pg_indexes"
        " WHERE schemaname = 'public'",
        "SELECT 'sequence', relname FROM pg_class"
        " WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace",
    )
    found = {
        tuple(row) for query in queries for row in connection.execute(sa.text(query))
    }
    # Each version is a transaction of its own.
    connection.rollback()
    return found


def test_each_version_can_be_undone(empty_database: str) -> None:
    """Down to the first version and up again, each has the same schema."""
    url = empty_database.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        config = migrate.alembic_config("index", connection)
        versions = [
            script.revision
            for script in ScriptDirectory.from_config(config).walk_revisions()
        ][::-1]
        assert len(versions) >= 10
        seen: dict[str, set[tuple[str, ...]]] = {}
        for version in versions:
            command.upgrade(config, version)
            seen[version] = schema_of(connection)
        for version in versions[-2::-1]:
            command.downgrade(config, version)
            assert schema_of(connection) == seen[version], version
        command.upgrade(config, "head")
        assert schema_of(connection) == seen[versions[-1]]
    engine.dispose()
    assert migrate.check(empty_database, "index") == []


def test_old_edges_are_sorted_by_their_keys(empty_database: str) -> None:
    url = empty_database.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    usual, far, none = (1_700_000_000_123_457 << 10) | 7, (2**53 - 1) << 10, -5
    with engine.connect() as connection:
        config = migrate.alembic_config("index", connection)
        command.upgrade(config, "0011")
        for path in (1, 3, 5000):
            for rkey in (usual, far, none):
                connection.execute(
                    sa.text(f"INSERT INTO link VALUES ({rkey}, 1, 1, 1, 1, {path})")
                )
        connection.commit()
        command.upgrade(config, "0012")
        rows = connection.execute(
            sa.text(
                "SELECT rkey, count(DISTINCT path), min(sort_at) = max(sort_at),"
                " (extract(epoch FROM min(sort_at)) * 1000000)::int8,"
                " max(sort_at) BETWEEN now() - interval '1 minute' AND now()"
                " FROM link GROUP BY 1"
            )
        )
        found = {rkey: tuple(rest) for rkey, *rest in rows}
    engine.dispose()
    assert found[usual] == (3, True, usual >> 10, False)
    for rkey in (far, none):
        assert found[rkey][::3] == (3, True)


def test_old_edges_count_once_an_account(empty_database: str) -> None:
    url = empty_database.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        config = migrate.alembic_config("index", connection)
        command.upgrade(config, "0012")
        for path, collection, target in (
            *((1, 1, 9), (1, 4, 9), (2, 1, 9), (3, 0, 0)),
            *((4, 0, 0), (5, 1, 9), (13, 9, 9)),
        ):
            for rkey in (7, -5, 8):
                connection.execute(
                    sa.text(
                        f"INSERT INTO link VALUES"
                        f" ({rkey}, {target}, 5, 6, {collection}, {path}, now())"
                    )
                )
        connection.execute(
            sa.text(
                "INSERT INTO post_stats (actor, rkey, likes, reposts, replies)"
                " VALUES (6, 9, 3, 3, 3);"
                "INSERT INTO subject_stats (actor, collection, rkey, likes)"
                " VALUES (6, 4, 9, 3);"
                "INSERT INTO actor_stats (actor, followers, follows)"
                " VALUES (6, 3, 0), (5, 0, 3)"
            )
        )
        connection.commit()
        command.upgrade(config, "0013")
        edges = (
            "SELECT path, count(*), min(rkey) FROM link GROUP BY 1, target_collection"
        )
        assert sorted(map(tuple, connection.execute(sa.text(edges)))) == [
            *((1, 1, -5), (1, 1, -5), (2, 1, -5), (3, 1, -5), (4, 1, -5)),
            *((5, 3, -5), (13, 1, -5)),
        ]
        aside = "SELECT count(*), bool_or(stale) FROM uncounted_link"
        assert tuple(connection.execute(sa.text(aside)).one()) == (12, False)
        # Members of lists are counted by a later migration.
        connection.execute(
            sa.text(
                "INSERT INTO link VALUES (3, 2, 5, 5, 9, 11, now());"
                "INSERT INTO list_item (actor, rkey, list_actor, list_rkey, subject)"
                " VALUES (5, 3, 5, 2, 6)"
            )
        )
        connection.commit()
        command.upgrade(config, "head")
    engine.dispose()
    with psycopg.connect(empty_database) as conn:
        assert recount_stats(conn).ok


def test_unknown_database_is_refused(empty_database: str) -> None:
    with pytest.raises(ValueError, match="unknown database"):
        migrate.upgrade(empty_database, "nothing")


def test_partitions_and_reserved_names(conn: Conn) -> None:
    def rows(query: str) -> set[Any]:
        return {row[0] if len(row) == 1 else row for row in conn.execute(query)}

    partitions = rows(
        "SELECT relname FROM pg_class WHERE relispartition AND relkind='r'"
    )
    expected = {f"record_{n}" for n in range(RECORD_PARTITIONS)}
    assert partitions == expected | set(LINK_PARTITIONS) | {"link_default"}
    assert rows("SELECT nsid, id FROM collection") == set(COLLECTION_IDS.items())
    assert rows(
        "SELECT p.id, c.nsid, p.path FROM path p JOIN collection c "
        "ON c.id = p.collection"
    ) == {(number, nsid, path) for number, (nsid, path) in PATHS.items()}
    first = conn.execute("INSERT INTO collection (nsid) VALUES ('a.b.c') RETURNING id")
    # Other tests may have drawn numbers: a sequence never goes back.
    number = first.fetchone()
    assert number is not None
    assert number[0] >= 1000
