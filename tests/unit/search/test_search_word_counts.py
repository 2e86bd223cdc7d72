"""Word counts: written in parts, and freed from rare words in parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from search.engines.postgres.frequencies import RARE, WordCounter
from storage.postgres.pool import Conn, open_pool

DOUBLED = 2**17
"""A number of documents at which rare words are removed."""
BEFORE = DOUBLED - 1


@pytest.fixture
def conn(databases: Any) -> Iterator[Conn]:
    url = databases.make("index")
    with open_pool(url, min=1, max=1) as pool, pool.connection() as conn:
        yield conn
    databases.drop(url)


def counts(conn: Conn) -> dict[str, int]:
    return dict(conn.execute("SELECT word, documents FROM search_word").fetchall())


def test_changes_of_a_large_index_are_written_in_parts(conn: Conn) -> None:
    words = WordCounter()
    changes = {f"word{n}": 2 for n in range(1_000)}
    words.add(changes, 2_000)
    words.flush(conn, BEFORE)
    assert counts(conn) == changes
    # A post that arrives alone writes few of the words that wait.
    more = {word: 3 for word in changes}
    words.add(more, 1_999)
    assert not words.flush(conn, BEFORE)
    words.add({}, 1)
    sizes = []
    while words.flush(conn, BEFORE):
        sizes.append(sum(n == 5 for n in counts(conn).values()))
        words.add({"word1": 1}, 1)
    assert sizes == [300, 600, 900, 1_000]
    assert set(counts(conn).values()) == {5}


def test_changes_of_a_small_index_are_written_at_once(conn: Conn) -> None:
    words = WordCounter()
    words.add({f"word{n}": 1 for n in range(1_000)}, 1)
    assert words.flush(conn, 10)
    assert len(counts(conn)) == 1_000
    assert not words.flush(conn, 10)


def test_rare_words_are_removed_in_parts_when_the_index_doubles(conn: Conn) -> None:
    conn.execute(
        "INSERT INTO search_word (word, documents)"
        " SELECT 'word' || (10000 + n), CASE WHEN n %% 2 = 0 THEN 1 ELSE 9 END"
        " FROM generate_series(1, 3000) n",
        (),
    )
    words = WordCounter()
    # The number of documents at the start of a process says nothing.
    words.flush(conn, BEFORE)
    assert len(counts(conn)) == 3_000
    left = []
    for _ in range(5):
        words.flush(conn, DOUBLED)
        left.append(len(counts(conn)))
    assert left == [2_400, 1_800, 1_500, 1_500, 1_500]
    assert set(counts(conn).values()) == {9}
    assert DOUBLED > RARE
