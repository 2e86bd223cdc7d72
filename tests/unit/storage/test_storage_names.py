"""Interned names."""

from __future__ import annotations

import threading

import pytest

from protocol.syntax import tid_from_int
from storage.collections import (
    COLLECTION_IDS,
    FIRST_FREE_ID,
    LIKE_SUBJECT,
    PATHS,
    RKEY_SELF,
)
from storage.postgres.pool import Conn, Pool
from storage.records.addresses import find_addresses
from storage.records.interning import MAX_PATHS_A_COLLECTION, Interner, rkey_number
from storage.repos import quarantine


@pytest.fixture
def interner(pool: Pool) -> Interner:
    return Interner(pool, cache_size=100)


def dids(count: int, letter: str = "x") -> list[str]:
    return [f"did:web:{letter}{n}.example.com" for n in range(count)]


def test_names_come_back(interner: Interner, pool: Pool) -> None:
    # More names than the cache holds, so that both the cache and the table answer.
    names = dids(1_000)
    numbers = interner.actors(names)
    assert len(set(numbers.values())) == 1_000
    assert interner.actors(names) == numbers
    assert Interner(pool).actors(reversed(names)) == numbers
    back = interner.dids(numbers.values())
    assert back == {number: name for name, number in numbers.items()}
    assert interner.dids([10**9]) == {}


def test_reading_names_creates_nothing(conn: Conn) -> None:
    uri = "at://did:web:nobody.example.com/org.example.none/never-seen"
    assert find_addresses(conn, [uri]) == {}
    rows = conn.execute(
        "SELECT (SELECT max(id) FROM collection), (SELECT min(id) FROM rkey)"
    )
    assert rows.fetchone() == (max(COLLECTION_IDS.values()), RKEY_SELF)


def test_collections(interner: Interner) -> None:
    found = interner.collections(["app.bsky.feed.post", "org.example.a"])
    assert found["app.bsky.feed.post"] == COLLECTION_IDS["app.bsky.feed.post"]
    assert found["org.example.a"] >= FIRST_FREE_ID
    assert interner.nsids(found.values()) == {v: k for k, v in found.items()}


def test_record_keys(interner: Interner) -> None:
    tid = "3laaaaaaaaa22"
    found = interner.rkeys([tid, "self", "a-name", "2" * 13])
    assert tid_from_int(found[tid]) == tid
    assert found["self"] == RKEY_SELF
    # 0 means "no record key", so the first TID of all is a name like any other.
    assert found["2" * 13] < RKEY_SELF
    assert found["a-name"] < RKEY_SELF
    assert interner.rkey_texts(found.values()) == {v: k for k, v in found.items()}
    assert rkey_number(tid) == found[tid]


def test_paths(interner: Interner) -> None:
    number, path = LIKE_SUBJECT, PATHS[LIKE_SUBJECT]
    known = (COLLECTION_IDS[path[0]], path[1])
    assert interner.paths([known]) == {known: number}
    new = (COLLECTION_IDS["app.bsky.feed.post"], ".some.where")
    assert interner.paths([new])[new] >= FIRST_FREE_ID


def test_paths_are_bounded(interner: Interner, conn: Conn) -> None:
    collection = interner.collections(["org.example.wild"])["org.example.wild"]
    keys = [(collection, f".key{n}") for n in range(MAX_PATHS_A_COLLECTION + 60)]
    numbers = interner.paths([*keys, (collection, "." + "x" * 5_000)])
    assert len(set(numbers.values())) == MAX_PATHS_A_COLLECTION + 1
    row = conn.execute("SELECT count(*) FROM path WHERE collection = %s", (collection,))
    assert row.fetchone() == (MAX_PATHS_A_COLLECTION + 1,)


def test_many_threads_make_each_name_once(index_db: str, pool: Pool) -> None:
    names = dids(400, "y")
    results: list[dict[str, int]] = []

    def work(offset: int) -> None:
        interner = Interner(pool)
        mine: dict[str, int] = {}
        for start in range(0, 400, 20):
            begin = (start * (offset + 1)) % 400
            mine |= interner.actors(names[begin : begin + 20])
        mine |= interner.actors(names)
        results.append(mine)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(result == results[0] for result in results)


def test_id_survives_rollback_of_batch(interner: Interner, conn: Conn) -> None:
    conn.execute("SELECT 1")
    number = interner.actors(["did:web:z.example.com"])["did:web:z.example.com"]
    conn.rollback()
    row = conn.execute("SELECT did FROM actor WHERE id = %s", (number,)).fetchone()
    assert row == ("did:web:z.example.com",)


def test_longest_names_fit_their_indexes(interner: Interner) -> None:
    did = "did:web:" + "a" * 2_040
    nsid = "a" * 63 + "." + "b" * 63 + "." + "c" * 63 + "." + "d" * 63 + "." + "e" * 61
    rkey = "k" * 512
    assert len(did) == 2_048
    assert interner.dids(interner.actors([did]).values()) is not None
    assert interner.collections([nsid])
    assert interner.rkeys([rkey])


def test_long_names_are_not_kept_in_memory(pool: Pool) -> None:
    interner = Interner(pool)
    short, long = "did:plc:" + "a" * 24, "did:example:" + "a" * 2_000
    numbers = interner.actors([short, long])
    assert interner.actors([long, short]) == numbers
    assert interner.dids(numbers.values()) == {n: did for did, n in numbers.items()}
    caches = (interner._actors, interner._dids)
    assert [len(cache._young) for cache in caches] == [1, 1]


def test_quarantine_is_bounded(conn: Conn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "KEPT", 3)
    for seq in range(10):
        quarantine.put_frame(conn, 1, seq, b"frame", "error")
    kept = conn.execute("SELECT seq FROM quarantined_frame ORDER BY id").fetchall()
    assert kept == [(7,), (8,), (9,)]
