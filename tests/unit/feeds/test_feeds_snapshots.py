"""Rankings in memory, and the moments that readers share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from feeds.algorithms.popular import PopularFeed
from feeds.skeleton import FeedRequest
from feeds.snapshots import FROZEN_US, Held, Moments
from storage.postgres.instants import to_micros
from storage.postgres.pool import Conn

NOW = 1_800_000_000_000_000


def test_readers_share_a_moment_once_it_is_settled() -> None:
    moments = Moments()
    assert moments.freeze("feed", NOW) == NOW
    # Nothing is ready: another reader builds too.
    assert moments.freeze("feed", NOW + 1) == NOW + 1
    moments.settle("feed", NOW)
    assert moments.freeze("feed", NOW + FROZEN_US - 1) == NOW
    later = NOW + FROZEN_US
    assert moments.freeze("feed", later) == later
    # While the first reader builds, others go on with the moment before.
    assert moments.freeze("feed", later + 1) == NOW
    moments.settle("feed", later)
    moments.settle("feed", NOW)
    assert moments.freeze("feed", later + 2) == later
    assert moments.freeze("feed", later + 10**9) == later + 10**9


def test_a_builder_that_fails_is_replaced() -> None:
    moments = Moments()
    moments.freeze("feed", NOW)
    moments.settle("feed", NOW)
    first = NOW + FROZEN_US
    assert moments.freeze("feed", first) == first
    assert moments.freeze("feed", first + 10_000_000) == first + 10_000_000


def test_held_drops_the_longest_unused() -> None:
    built: list[str] = []

    def make(name: str) -> list[int]:
        built.append(name)
        return [0] * 4

    held: Held[list[int]] = Held(11)
    for name in ("a", "b", "a", "c", "a", "b"):
        held.get(name, lambda name=name: make(name))  # type: ignore[misc]
    assert built == ["a", "b", "c", "b"]


def test_popular_ranks_once_for_all_pages_of_a_moment(conn: Conn) -> None:
    at = datetime.now(UTC) - timedelta(hours=1)
    for number in range(1, 40):
        conn.execute(
            "INSERT INTO post (actor, rkey, sort_at, created_at, indexed_at)"
            " VALUES (1, %s, %s, %s, %s)",
            (number, at, at, at),
        )
        conn.execute(
            "INSERT INTO post_stats (actor, rkey, likes) VALUES (1, %s, %s)",
            (number, number % 5),
        )
    held: Held[list[tuple[int, int, int]]] = Held(1_000)
    feed = PopularFeed(held, Moments())
    keys: list[int] = []
    after = None
    while True:
        page = feed.build(conn, FeedRequest(None, 7, after))
        keys += [entry.item.post.rkey for entry in page]
        # Later reactions change no place of this reader.
        conn.execute("UPDATE post_stats SET likes = likes + 50 WHERE rkey = 1")
        if len(page) < 7:
            break
        after = page[-1].keyset
    assert len(keys) == len({*keys}) == sum(n % 5 > 0 for n in range(1, 40))
    assert keys == sorted(keys, key=lambda n: (n % 5, n), reverse=True)
    fresh = PopularFeed(held, Moments())
    assert after is not None
    assert fresh.build(conn, FeedRequest(None, 7, after)) == page
    newest = fresh.build(conn, FeedRequest(None, 1, now=datetime.now(UTC)))
    assert newest[0].item.post.rkey == 1
    assert newest[0].keyset[3] > to_micros(at)
