"""The collections of repos, kept with their records."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from indexer_steps import actor_id
from indexer_world import NOW, POST, author, post, profile

from indexer.apply import apply_batch
from storage import migrate
from storage.postgres.pool import Conn
from storage.records.collection_repos import fetch_held, list_holders
from storage.records.interning import Interner
from storage.repos.repo_listing import list_collections

RECIPE, OTHER = "org.example.recipe", "org.example.other"


def test_row_goes_with_the_last_record_of_a_collection(
    conn: Conn, interner: Interner
) -> None:
    one, two = author(0), author(1)

    def write(someone: Any, records: dict[str, Any]) -> None:
        event = someone.commit(records)
        apply_batch(conn, interner, [event], {event.host: event.seq}, NOW)

    def names(someone: Any) -> set[str]:
        held = fetch_held(conn, actor_id(conn, someone.did))
        conn.rollback()
        return {*interner.nsids(c for _, c in held).values()}

    def recipe(number: int) -> dict[str, Any]:
        return {"$type": RECIPE, "n": number}

    write(one, {f"{RECIPE}/a": recipe(1), f"{RECIPE}/b": recipe(2)})
    write(two, {f"{RECIPE}/a": recipe(1), f"{OTHER}/a": {"$type": OTHER}})
    write(
        one,
        {f"{POST}/3kaaaaaaaaa22": post(), "app.bsky.actor.profile/self": profile("x")},
    )
    assert names(one) == {RECIPE}
    assert names(two) == {RECIPE, OTHER}
    write(one, {f"{RECIPE}/a": None})
    assert names(one) == {RECIPE}
    write(one, {f"{RECIPE}/b": recipe(3)})
    assert names(one) == {RECIPE}
    # The last one goes while another comes, then for good.
    write(one, {f"{RECIPE}/b": None, f"{RECIPE}/c": recipe(4)})
    assert names(one) == {RECIPE}
    write(one, {f"{RECIPE}/c": None, f"{OTHER}/x": {"$type": OTHER}})
    assert names(one) == {OTHER}
    collection = interner.collections([RECIPE])[RECIPE]
    page = list_holders(conn, collection, limit=5, after=0)
    assert [holder.did for holder in page.found] == [two.did]
    assert list_collections(conn, actor_id(conn, one.did)) == [
        "app.bsky.actor.profile",
        POST,
        OTHER,
    ]


def test_migration_fills_the_rows_of_held_records(empty_database: str) -> None:
    url = empty_database.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    records = [(1, 1, 5), (1, 4, 5), (1, 4, 6), (1, 2000, -7), (2, 14, -1), (3, 5, 9)]
    with engine.connect() as connection:
        config = migrate.alembic_config("index", connection)
        command.upgrade(config, "0020")
        for actor in (1, 2, 3):
            connection.execute(sa.text(f"INSERT INTO repo (actor) VALUES ({actor})"))
        for record in records:
            values = ", ".join(map(str, record))
            connection.execute(sa.text(f"INSERT INTO record VALUES ({values}, 'x')"))
        connection.commit()
        command.upgrade(config, "0025")
        rows = connection.execute(
            sa.text("SELECT actor, collection FROM collection_repo ORDER BY 1, 2")
        )
        found = [tuple(row) for row in rows]
    engine.dispose()
    assert found == [(1, 4), (1, 2000), (3, 5)]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_pages_of_holders_end(conn: Conn, limit: int) -> None:
    for number in range(1, 6):
        status = "active" if number % 2 else "deactivated"
        conn.execute(
            "INSERT INTO actor (id, did, upstream_status) OVERRIDING SYSTEM VALUE"
            " VALUES (%s, %s, %s)",
            (number, f"did:plc:{number}", status),
        )
        conn.execute("INSERT INTO collection_repo VALUES (%s, 5000)", (number,))
    found, after = [], 0
    for _ in range(9):
        page = list_holders(conn, 5000, limit=limit, after=after)
        found += [holder.actor for holder in page.found]
        assert len(page.found) <= limit
        if page.after is None:
            break
        after = page.after
    assert found == [1, 3, 5]
    assert page.after is None
