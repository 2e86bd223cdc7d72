"""Steps of tests of partial repos."""

from __future__ import annotations

from indexer_world import (
    FOLLOW,
    LIKE,
    NOW,
    POST,
    PROFILE,
    Author,
    author,
    follow,
    held_records,
    like,
    post,
    profile,
)

from indexer.repos.checkout import Checkout, CheckoutResult
from protocol.data.cid import cid_for
from storage.postgres.pool import Conn
from storage.records.interning import Interner
from storage.repos.scope_rows import ScopeKind, set_scope
from storage.repos.selections import wanted_selection

NOTE = "org.example.note"


NOTES = "org.example.notebook"


def choose(conn: Conn, *keep: str) -> int | None:
    with conn.transaction():
        set_scope(conn, ScopeKind.NETWORK, keep=keep)
        wanted = wanted_selection(conn)
    return None if wanted is None else wanted.id


def keeps_of(conn: Conn, someone: Author) -> set[str] | None:
    row = conn.execute(
        "SELECT s.collections FROM repo JOIN actor ON actor.id = actor"
        " LEFT JOIN selection s ON s.id = selection WHERE did = %s",
        (someone.did,),
    ).fetchone()
    conn.rollback()
    assert row is not None
    return None if row[0] is None else set(row[0])


def of(someone: Author, *keep: str) -> dict[str, bytes]:
    return {
        path: raw
        for path, raw in someone.records.items()
        if path.partition("/")[0] in keep
    }


def held(conn: Conn, someone: Author) -> dict[str, bytes]:
    found = held_records(conn)
    conn.rollback()
    return {path: raw for (did, path), raw in found.items() if did == someone.did}


def fetch(conn: Conn, interner: Interner, someone: Author) -> CheckoutResult:
    """Import the wanted collections, as a backfill does."""
    wanted = wanted_selection(conn)
    conn.rollback()
    records, drops = someone.repo_records(), someone.repo_drops()
    if wanted is not None:
        records = [each for each in records if each.collection in wanted.collections]
        drops = [each for each in drops if each.is_of(wanted.collections)]
    number = None if wanted is None else wanted.id
    with Checkout(
        conn, interner, someone.did, someone.host, selection=number, now=NOW
    ) as checkout:
        checkout.add(records)
        checkout.drop(drops)
        return checkout.finish(someone.head())


def written(number: int = 0) -> Author:
    someone = author(number)
    other = author(number + 1)
    someone.commit({f"{PROFILE}/self": profile("Someone")})
    for n in range(4):
        path, _ = someone.write(POST, post(f"post {n}"))
        someone.write(LIKE, like(someone.uri(path)))
        someone.write(FOLLOW, follow(other.did))
        someone.commit({f"{NOTE}/note-{n}": {"$type": NOTE, "n": n}})
        someone.commit({f"{NOTES}/note-{n}": {"$type": NOTES, "n": n}})
    big = {f"{NOTE}/large": cid_for(b"1"), f"{POST}/large": cid_for(b"2")}
    someone.commit({}, big)  # type: ignore[arg-type]
    return someone


def dropped(conn: Conn) -> set[bytes]:
    rows = conn.execute("SELECT path FROM dropped_record").fetchall()
    conn.rollback()
    return {row[0] for row in rows}
