"""Recipes as records in the repos of their authors: feeds follow the records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from indexer_world import CREATED, Author
from small_world import did

from feeds.served_feeds import ServedFeeds
from network.server.rate_limit import RateLimit
from service import recipe_records
from service.recipe_records import COLLECTION, RecipeRecords
from storage.postgres.pool import Conn, Pool
from storage.private.feeds.feed_recipes import MAX_RECIPES, find_recipes
from storage.private.private_store import PrivateStore

DID = "did:web:provider.example.com"
TEXT = 'name = "{}"\ntitle = "{}"\n[[source]]\nsearch = "quokka"\n'
Write = Callable[..., None]


def record(name: str, title: str = "Title", **more: Any) -> dict[str, Any]:
    return {
        "$type": COLLECTION,
        "recipe": TEXT.format(name, title),
        "service": DID,
        "createdAt": CREATED,
        **more,
    }


@pytest.fixture
def records(pool: Pool) -> RecipeRecords:
    return RecipeRecords(pool, PrivateStore(pool), DID)


@pytest.fixture
def write(conn: Conn, apply: Any) -> Write:
    def commit(author: Author, **values: Any) -> None:
        apply(author.commit({f"{COLLECTION}/{n}": v for n, v in values.items()}))
        conn.commit()

    return commit


def titles(records: RecipeRecords, owner: str) -> dict[str, str]:
    """Return the titles of the recipes that a new process serves, by name."""
    feeds = ServedFeeds().current(records.private, DID)
    with records.private.read() as conn:
        names = [recipe.rkey for recipe in find_recipes(conn, owner)]
    found = {name: feeds.find(owner, name, DID) for name in names}
    return {n: f.algorithm.display_name for n, f in found.items() if f is not None}


def test_feeds_follow_the_records(records: RecipeRecords, write: Write) -> None:
    author = Author(did("alice"))
    assert records.read() == 0
    write(author, one=record("one", "One"), two=record("two", "Two"))
    assert records.read() == 2
    assert titles(records, author.did) == {"one": "One", "two": "Two"}
    assert records.read() == 0
    write(author, one=record("one", "Uno"), two=None)
    assert records.read() == 2
    assert titles(records, author.did) == {"one": "Uno"}
    # Another process begins at the first record.
    again = RecipeRecords(records.pool, records.private, DID)
    assert again.read() == 0
    write(author, one=record("one", "Uno", service="did:web:other.example.com"))
    assert again.read() == 1
    assert titles(records, author.did) == {}


@pytest.mark.parametrize(
    "faulty",
    [
        record("other"),
        record("one", ""),
        record("one", "\x00"),
        record("one", recipe="no recipe"),
        record("one", recipe='{"name": "one"'),
        record("one", recipe="#" * 70_000),
    ],
)
def test_a_faulty_record_keeps_the_feed_as_it_was(
    records: RecipeRecords, write: Write, faulty: dict[str, Any]
) -> None:
    author = Author(did("alice"))
    write(author, one=faulty)
    assert records.read() == 0
    write(author, one=record("one", "One"))
    records.read()
    records.read()
    known = titles(records, author.did)
    write(author, one=faulty)
    assert records.read() == 0
    assert titles(records, author.did) == known


@pytest.mark.parametrize(
    "foreign", [{"service": "did:web:x.example.com"}, {"recipe": 7}, {"service": None}]
)
def test_records_for_others_are_left_alone(
    records: RecipeRecords, write: Write, foreign: dict[str, Any]
) -> None:
    author = Author(did("alice"))
    write(author, one=record("one") | foreign)
    assert records.read() == 0
    assert titles(records, author.did) == {}


def test_walks_find_every_record_page_by_page(
    records: RecipeRecords, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe_records, "_PAGE", 3)
    authors = [Author(did(name)) for name in ("alice", "bob", "carol")]
    for author in authors:
        write(author, **{f"f{n}": record(f"f{n}") for n in range(4)})
    saved = 0
    for step in range(12):
        if step == 2:
            # Newer than what this walk still reads.
            write(authors[0], late=record("late"))
        saved += records.read()
    assert saved == 13
    write(authors[1], f0=None, f3=record("f3", "New"))
    assert sum(records.read() for _ in range(6)) == 2


def test_saves_of_an_account_are_bounded(records: RecipeRecords, write: Write) -> None:
    records._limit = RateLimit(2, 3_600.0)
    author, other = Author(did("alice")), Author(did("bob"))
    write(author, one=record("one"), two=record("two"), three=record("three"))
    write(other, one=record("one"))
    assert records.read() == 3
    assert len(titles(records, author.did)) == 2
    # The third is not forgotten.
    records._limit = RateLimit(2, 3_600.0)
    assert records.read() == 1
    assert len(titles(records, author.did)) == 3


def test_recipes_of_an_account_are_bounded(
    records: RecipeRecords, write: Write
) -> None:
    author = Author(did("alice"))
    write(author, **{f"f{n}": record(f"f{n}") for n in range(MAX_RECIPES + 3)})
    assert records.read() == MAX_RECIPES
