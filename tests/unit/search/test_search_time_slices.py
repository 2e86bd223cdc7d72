"""Time slices of the postgres engine, against a list of the same documents."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

import pytest
from sample_documents import DIDS, POST, START, document

from search.documents import RecordDocument
from search.engines.postgres import PostgresEngine
from search.query.nodes import Query
from search.query.parser import parse_query
from storage.postgres.pool import Conn, open_pool
from storage.records.addresses import Address

CAPS = (8, 24, 60, 150)
WORDS = ["common", "often", "some", "rare", "seldom"]
WEIGHTS = (60, 30, 10, 2, 1)
LONG_AGO = START - timedelta(days=20_000)


class World:
    """An engine with small slices, and what it should hold."""

    def __init__(self, engine: PostgresEngine, conn: Conn) -> None:
        self.engine = engine
        self.conn = conn
        self.rng = random.Random(5)
        self.documents: dict[Address, RecordDocument] = {}

    def put(self, documents: list[RecordDocument]) -> None:
        with self.conn.transaction():
            self.engine.put(self.conn, documents)
        self.documents.update({d.address: d for d in documents})

    def delete(self, addresses: list[Address]) -> None:
        with self.conn.transaction():
            self.engine.delete(self.conn, addresses, [])
        for address in addresses:
            self.documents.pop(address, None)

    def make(self, n: int) -> RecordDocument:
        rng = self.rng
        # A fifth have the same time.
        minutes = rng.randrange(3_000)
        at = LONG_AGO if rng.random() < 0.2 else START + timedelta(minutes=minutes)
        words = rng.choices(WORDS, WEIGHTS, k=rng.randrange(1, 7))
        likes = int(rng.paretovariate(0.5)) - 1
        return document(
            n,
            " ".join(words),
            actor=rng.randrange(1, 4),
            sort_at=at,
            langs=("hi",) if rng.random() < 0.1 and "some" not in words else ("en",),
            likes=min(likes, 10**6),
        )

    def pages(self, text: str, limit: int, sort: Literal["top", "latest"]) -> list[int]:
        query = parse_query(text, resolve_handle=lambda _: None, base=Query(sort=sort))
        seen: list[int] = []
        after = None
        while True:
            page = self.engine.search_records(
                query, collections=[POST], limit=limit, after=after
            )
            seen += [hit.address.rkey for hit in page.hits]
            if len(page.hits) < limit:
                return seen
            after = page.hits[-1].keyset

    def expected(self, word: str) -> list[int]:
        found = [d for d in self.documents.values() if word in d.text.split()]
        found.sort(key=lambda d: (d.sort_at, d.address), reverse=True)
        return [d.address.rkey for d in found]


@pytest.fixture(scope="module")
def world(databases: Any) -> Iterator[World]:
    url = databases.make("index")
    with open_pool(url, min=1, max=3) as pool, pool.connection() as conn:
        for number, did in DIDS.items():
            conn.execute("INSERT INTO actor (id, did) VALUES (%s, %s)", (number, did))
        conn.commit()
        world = World(PostgresEngine(pool, caps=CAPS), conn)
        for start in range(0, 600, 40):
            world.put([world.make(n) for n in range(start + 1, start + 41)])
        for d in world.documents.values():
            conn.execute(
                "INSERT INTO post_stats (actor, rkey, likes) VALUES (%s, %s, %s)",
                (d.address.actor, d.address.rkey, d.likes),
            )
        conn.commit()
        yield world
    databases.drop(url)


def sizes(world: World) -> list[int]:
    with world.engine.pool.connection() as conn:
        return [
            conn.execute(f"SELECT count(*) FROM search_document_{n}").fetchone()[0]  # type: ignore[index]
            for n in range(5)
        ]


def counted(world: World) -> list[int]:
    with world.engine.pool.connection() as conn:
        rows = conn.execute("SELECT documents FROM search_slice ORDER BY slice")
        return [row[0] for row in rows]


def test_full_slices_pass_their_oldest_documents_on(world: World) -> None:
    assert sizes(world) == counted(world)
    assert sum(sizes(world)) == len(world.documents)
    assert all(size > 0 for size in sizes(world))
    with world.engine.pool.connection() as conn:
        spans = [
            conn.execute(
                "SELECT ts, actor, collection, rkey"
                f" FROM search_document_{n} ORDER BY 1, 2, 3, 4"
            ).fetchall()
            for n in range(5)
        ]
    for newer, older in pairwise(spans):
        assert newer[0] > older[-1]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("limit", [1, 7, 1_000])
def test_latest_is_exact_to_the_end(world: World, word: str, limit: int) -> None:
    if limit == 1 and word in ("common", "often"):
        limit = 3
    assert world.pages(word, limit, "latest") == world.expected(word)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("limit", [3, 40])
def test_top_holds_everything_once(world: World, word: str, limit: int) -> None:
    seen = world.pages(word, limit, "top")
    assert sorted(seen) == sorted(world.expected(word))
    likes = [
        next(d.likes for d in world.documents.values() if d.address.rkey == k)
        for k in seen
    ]
    tiers = [sum(n >= 4**k for k in range(1, 12)) for n in likes]
    # Of few matches, those about the word come before the most liked.
    assert word == "rare" or tiers[0] == max(tiers)


@pytest.mark.parametrize(
    "text",
    ["common lang:hi", "rare lang:hi", "seldom rare often", "-common", "common -often"],
)
def test_pairs_and_negations_are_exact(world: World, text: str) -> None:
    words = [part for part in text.split() if ":" not in part]
    lang = ("hi",) if "lang:hi" in text else None
    expected = [
        d
        for d in world.documents.values()
        if all(
            (word.lstrip("-") in d.text.split()) != word.startswith("-")
            for word in words
        )
        and (lang is None or d.langs == lang)
    ]
    found = world.pages(text, 5, "latest")
    assert sorted(found[: len(expected)]) == sorted(d.address.rkey for d in expected)
    # With three words, records that lack one of them follow.
    assert len(found) == len(set(found))
    assert len(words) > 2 or len(found) == len(expected)


@pytest.mark.parametrize("sort", ["latest", "top"])
def test_pages_stay_whole_while_documents_arrive_and_move(
    world: World, sort: Literal["latest", "top"]
) -> None:
    engine = world.engine
    before = world.expected("common")
    query = parse_query("common", resolve_handle=lambda _: None, base=Query(sort=sort))
    seen: list[int] = []
    after = None
    first = 10_000 if sort == "top" else 20_000
    for page_number in range(200):
        page = engine.search_records(query, collections=[POST], limit=9, after=after)
        seen += [hit.address.rkey for hit in page.hits]
        if len(page.hits) < 9:
            break
        after = page.hits[-1].keyset
        numbers = range(first + 12 * page_number, first + 12 * page_number + 12)
        world.put(
            [
                replace(world.make(n), sort_at=datetime.now(UTC) + timedelta(minutes=1))
                for n in numbers
            ]
        )
    assert len(seen) == len(set(seen))
    assert set(before) <= set(seen)
    with engine.pool.connection() as conn:
        engine.delete(conn, [d for d in world.documents if d.rkey >= first], [])
    for address in [d for d in world.documents if d.rkey >= first]:
        del world.documents[address]
    assert sizes(world) == counted(world)
    assert sum(sizes(world)) == len(world.documents)


def test_changed_documents_are_replaced_in_any_slice(world: World) -> None:
    old = next(d for d in world.documents.values() if d.sort_at == LONG_AGO)
    world.put([replace(old, text="changedword", sort_at=START + timedelta(days=9))])
    assert world.pages("changedword", 5, "latest") == [old.address.rkey]
    assert world.pages("changedword", 5, "top") == [old.address.rkey]
    world.put([old])
    assert world.pages("changedword", 5, "latest") == []
    world.delete([old.address, Address(1, POST, 999_999)])
    assert old.address.rkey not in world.pages("common", 50, "latest")
    assert sizes(world) == counted(world)
    world.put([old])


def test_words_of_documents_are_counted(world: World) -> None:
    with world.engine.pool.connection() as conn:
        world.engine.put(conn, [])
        rows = dict(conn.execute("SELECT word, documents FROM search_word").fetchall())
    for word in WORDS:
        actual = len(world.expected(word))
        assert abs(rows[word] - actual) <= max(2, actual // 10)
