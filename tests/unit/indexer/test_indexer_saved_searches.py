"""Saved searches in the drain: new records match once or again, and none is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from indexer_steps import Apply, import_repo, leave
from indexer_world import POST, Author, author, post

from indexer.collections.texts import TEXTS
from protocol.events.event import AccountEvent
from search.drain import drain_outbox, queue_everything
from search.engines.postgres import PostgresEngine
from search.matches import saved_matcher
from search.matches.match_log import (
    load_oldest,
    load_tail,
    matches_after,
    matches_of,
    prune_matches,
)
from search.matches.matcher import is_listed
from search.matches.saved_matcher import SavedMatcher, parse_saved
from search.query.operators import InvalidQueryError
from storage.postgres.crashpoint import Crashpoint
from storage.postgres.pool import Conn, Pool
from storage.private import saved_searches as store
from storage.private.private_store import PrivateStore
from storage.private.saved_searches import TooManySearchesError
from storage.records.addresses import name_addresses_in
from storage.records.interning import Interner

OWNER = "did:plc:owner"
ROOT = Path(__file__).parents[3]
NOW = datetime.now(UTC)
KILLED_AT = (
    Crashpoint.OUTBOX_TAKEN,
    Crashpoint.OUTBOX_TOLD,
    Crashpoint.OUTBOX_MATCHED,
    Crashpoint.OUTBOX_CLEARED,
)
DRAIN = """
import sys
from indexer.collections.texts import TEXTS
from search.drain import drain_outbox
from search.engines.postgres import PostgresEngine
from search.matches.saved_matcher import SavedMatcher
from storage.postgres.pool import open_pool
from storage.private.private_store import PrivateStore

with open_pool(sys.argv[1], max=3) as pool, pool.connection() as conn:
    matcher = SavedMatcher(PrivateStore(pool))
    while drain_outbox(conn, PostgresEngine(pool), TEXTS, 3, matcher.log_matches):
        conn.commit()
"""


def save(conn: Conn, query: str, owner: str = OWNER, **options: Any) -> int:
    fields = {"collections": [POST], "accounts": {}, **options}
    listed = is_listed(parse_saved(query, owner, {}.get))
    saved = store.save_search(conn, owner, query, NOW, listed=listed, **fields)
    conn.commit()
    assert saved is not None
    return saved.id


@pytest.fixture
def drain(conn: Conn, pool: Pool) -> Callable[[], None]:
    """Return a function that drains the outbox in small batches until it is empty."""
    matcher = SavedMatcher(PrivateStore(pool))
    engine = PostgresEngine(pool)

    def run() -> None:
        # Postgres keeps the lock of a killed drain until it notices the death.
        while conn.execute("SELECT FROM search_outbox LIMIT 1").fetchone() is not None:
            conn.commit()
            if not drain_outbox(conn, engine, TEXTS, 3, matcher.log_matches):
                time.sleep(0.01)
        conn.commit()

    return run


def found(conn: Conn) -> list[tuple[int, str]]:
    """Return the searches and AT-URIs of all matches, in order."""
    matches = matches_after(conn, 0, 10_000)
    names = name_addresses_in(conn, [m.address for m in matches])
    conn.commit()
    return [(m.search, names[m.address]) for m in matches]


def recent(text: str) -> dict[str, Any]:
    return post(text) | {"createdAt": datetime.now(UTC).isoformat()}


def test_new_and_changed_records_match(
    conn: Conn, apply: Apply, drain: Callable[[], None]
) -> None:
    a = author(0)
    before = a.write(POST, post("a cat before"))[1]
    apply(before)
    drain()
    cats, dogs = save(conn, "cat -dog"), save(conn, "dog lang:en")
    path, event = a.write(POST, post("a cat", langs=["en"]))
    apply(event)
    apply(a.write(POST, post("a bird"))[1])
    drain()
    assert found(conn) == [(cats, a.uri(path))]
    apply(a.commit({path: post("a dog", langs=["en"])}))
    drain()
    apply(a.commit({path: None}))
    drain()
    assert found(conn) == [(cats, a.uri(path)), (dogs, a.uri(path))]
    assert [m.number for m in matches_after(conn, 0, 10)] == [1, 2]
    assert (load_oldest(conn), load_tail(conn)) == (1, 2)


def test_rebuilt_index_and_returned_account_match_nothing(
    conn: Conn, apply: Apply, pool: Pool, drain: Callable[[], None]
) -> None:
    a = author(0)
    apply(a.write(POST, post("a cat"))[1])
    drain()
    save(conn, "cat")
    queue_everything(conn, PostgresEngine(pool))
    drain()
    leave(conn, apply, a, "deactivated")
    drain()
    apply(AccountEvent(a.did, True, None, 100, 1))  # type: ignore[arg-type]
    drain()
    assert found(conn) == []


def test_records_that_wait_match_after_a_rebuild(
    conn: Conn, apply: Apply, pool: Pool, drain: Callable[[], None]
) -> None:
    a, cats = author(0), save(conn, "cat")
    path, event = a.write(POST, post("a cat"))
    apply(event)
    queue_everything(conn, PostgresEngine(pool))
    drain()
    assert found(conn) == [(cats, a.uri(path))]


def test_fetched_repo_matches_with_recent_records_only(
    conn: Conn, interner: Interner, drain: Callable[[], None]
) -> None:
    a, cats = author(0), save(conn, "cat")
    a.write(POST, post("an old cat"))
    path, _ = a.write(POST, recent("a new cat"))
    import_repo(conn, interner, a)
    drain()
    assert found(conn) == [(cats, a.uri(path))]


def test_changed_searches_are_obeyed_at_once(
    conn: Conn, apply: Apply, drain: Callable[[], None]
) -> None:
    a = author(0)
    first, second = save(conn, "cat"), save(conn, "cat", "did:plc:other")

    def write(text: str) -> list[int]:
        tail = load_tail(conn)
        conn.commit()
        apply(a.write(POST, post(text))[1])
        drain()
        searches = [m.search for m in matches_after(conn, tail, 10)]
        conn.commit()
        return searches

    assert write("a cat") == [first, second]
    assert save(conn, "dog", replace=first) == first
    assert write("a cat") == [second]
    assert not store.delete_search(conn, OWNER, second)
    assert store.delete_search(conn, "did:plc:other", second)
    conn.commit()
    assert write("a cat and a dog") == [first]
    assert [s.query for s in store.find_searches(conn, OWNER)] == ["dog"]


def test_search_that_finds_too_much_is_paused(
    conn: Conn,
    apply: Apply,
    drain: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(saved_matcher, "MAX_MATCHES_PER_HOUR", 2)
    a, broad, narrow = author(0), save(conn, "cat"), save(conn, "wombat")
    for _ in range(5):
        apply(a.write(POST, post("a cat"))[1])
        drain()
    assert [m.search for m in matches_after(conn, 0, 10)] == [broad] * 3
    paused = {s.id: s.paused_at for s in store.find_searches(conn, OWNER)}
    assert paused[broad] is not None
    assert paused[narrow] is None
    save(conn, "cat", replace=broad)
    apply(a.write(POST, post("a cat"))[1])
    drain()
    assert load_tail(conn) == 4


def test_searches_of_an_account_and_unlisted_ones_are_bounded(
    conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_SEARCHES", 2)
    monkeypatch.setattr(store, "MAX_UNLISTED", 1)
    first = save(conn, "-cat")
    with pytest.raises(TooManySearchesError, match="needs a word"):
        save(conn, "lang:en", "did:plc:other")
    conn.rollback()
    assert save(conn, "-dog", replace=first) == first
    save(conn, "cat")
    with pytest.raises(TooManySearchesError, match="at most 2"):
        save(conn, "dog")


@pytest.mark.parametrize("text", ["in:following", "min_likes:3", "", "lang:x1"])
def test_query_that_cannot_be_saved_is_refused(text: str) -> None:
    with pytest.raises(InvalidQueryError):
        parse_saved(text, OWNER, {}.get)


def test_log_is_read_by_search_and_pruned(
    conn: Conn, apply: Apply, drain: Callable[[], None]
) -> None:
    a, cats, dogs = author(0), save(conn, "cat"), save(conn, "dog")
    for n in range(6):
        apply(a.write(POST, post("a cat" if n % 2 else "a dog and a cat"))[1])
    drain()

    def numbers(searches: list[int], after: int, until: int, limit: int) -> list[int]:
        return [m.number for m in matches_of(conn, searches, after, until, limit)]

    by_dogs = numbers([dogs], 0, 100, 10)
    assert len(by_dogs) == 3
    assert numbers([dogs, cats, dogs], 2, 8, 4) == [3, 4, 5, 6]
    assert numbers([cats, dogs], 2, 4, 10) == [3, 4]
    assert prune_matches(conn, before=NOW - timedelta(days=1), keep=4) == 5
    assert (load_oldest(conn), load_tail(conn)) == (6, 9)
    assert prune_matches(conn, before=NOW + timedelta(days=1), keep=4) == 4
    assert (load_oldest(conn), load_tail(conn)) == (10, 9)


@pytest.mark.parametrize(
    "kills", [2, pytest.param(20, marks=pytest.mark.long)], ids=str
)
def test_no_match_is_lost_by_kills(
    kills: int, conn: Conn, apply: Apply, pool: Pool, drain: Callable[[], None]
) -> None:
    cats = save(conn, "cat")
    writers = [author(n) for n in range(2)]
    chance = random.Random(kills)
    written: list[str] = []
    for kill in range(kills):
        written += _write_some(apply, writers, chance)
        point = KILLED_AT[kill % len(KILLED_AT)]
        killed = subprocess.run(
            [sys.executable, "-c", DRAIN, _url_of(conn)],
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "CRASH_AT": f"{point}:{chance.randint(1, 2)}"},
            check=False,
        )
        assert killed.returncode == -9
    drain()
    matches = found(conn)
    assert {search for search, _ in matches} == {cats}
    assert {uri for _, uri in matches} == set(written)
    assert len(matches) == len(written)
    assert [m.number for m in matches_after(conn, 0, 10_000)] == [
        *range(1, len(written) + 1)
    ]


def _write_some(
    apply: Apply, writers: list[Author], chance: random.Random
) -> list[str]:
    uris = []
    for _ in range(chance.randint(4, 9)):
        writer = chance.choice(writers)
        path, event = writer.write(POST, post("a cat"))
        uris.append(writer.uri(path))
        apply(event)
    return uris


def _url_of(conn: Conn) -> str:
    info = conn.info
    return f"postgresql://{info.user}@/{info.dbname}?host={info.host}&port={info.port}"
