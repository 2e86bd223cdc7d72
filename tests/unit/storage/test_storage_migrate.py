"""The tables in code are the tables the migrations make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from storage import migrate
from storage.collections import COLLECTION_IDS, LINK_PARTITIONS, PATHS
from storage.schema import RECORD_PARTITIONS


@pytest.mark.parametrize("name", ["index", "pds", "plc"])
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


def test_unknown_database_is_refused(empty_database: str) -> None:
    with pytest.raises(ValueError, match="unknown database"):
        migrate.upgrade(empty_database, "nothing")


def test_partitions_and_reserved_names(conn: psycopg.Connection[Any]) -> None:
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
    # Other tests of this database may have drawn numbers: a sequence never goes back.
    number = first.fetchone()
    assert number is not None
    assert number[0] >= 1000
