"""Statistics of feeds: counters of processes, stored hours, and their sums."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.feed_counters import MAX_HELD, FeedCounters
from storage.postgres.pool import Conn
from storage.private.feeds.feed_hours import (
    EVENTS,
    KEPT,
    LATENCY_MS,
    FeedHour,
    add_hours,
    drop_old_hours,
    read_hours,
    total_by_feed,
)
from storage.private.feeds.reader_sketch import ReaderSketch

NOW = datetime(2026, 12, 1, 12, 34, tzinfo=UTC)
HOUR = datetime(2026, 12, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("members", [0, 1, 2, 50, 1_000, 20_000])
def test_sketch_estimates_distinct_members(members: int) -> None:
    rng = random.Random(members)
    sketch = ReaderSketch()
    for _ in range(2):
        rng.seed(members)
        for _ in range(members):
            sketch.add(rng.getrandbits(64))
    assert sketch.count() == pytest.approx(members, rel=0.1, abs=0.5)
    assert ReaderSketch(bytes(sketch)).count() == sketch.count()


@given(st.sets(st.integers(0, 2**64 - 1)), st.sets(st.integers(0, 2**64 - 1)))
def test_merged_sketches_are_those_of_all(left: set[int], right: set[int]) -> None:
    def sketch(marks: set[int]) -> ReaderSketch:
        made = ReaderSketch()
        for mark in marks:
            made.add(mark)
        return made

    merged = sketch(left)
    merged.merge(sketch(right))
    assert bytes(merged) == bytes(sketch(left | right))


def test_sketch_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="1024 bytes"):
        ReaderSketch(b"x")


def test_latency_is_a_bound_of_its_class() -> None:
    hour = FeedHour("a", HOUR)
    assert hour.latency_ms(0.99) is None
    counters = FeedCounters(now=lambda: NOW)
    for _ in range(99):
        counters.count_page("a", None, 1, 0.0015)
    counters.count_page("a", None, 1, 0.150)
    [hour] = counters.take()
    assert (hour.latency_ms(0.5), hour.latency_ms(0.99)) == (2, 2)
    assert hour.latency_ms(1) == 200
    counters.count_page("a", None, 0, 99.0)
    [hour] = counters.take()
    assert hour.latency_ms(0.99) == LATENCY_MS[-1]
    assert hour.empty_pages == 1


def test_hours_of_several_processes_add_up(conn: Conn) -> None:
    counters = [FeedCounters(b"secret", now=lambda: NOW) for _ in range(3)]
    for number, one in enumerate(counters):
        for reader in range(10 * number, 10 * number + 20):
            one.count_page("at://a/b/c", f"did:plc:{reader}", reader, 0.004)
        one.count_interactions("at://a/b/c", EVENTS[:2])
        one.count_page("at://a/b/d", None, 3, 0.004)
        add_hours(conn, one.take())
        add_hours(conn, one.take())
    first, second = read_hours(conn, HOUR)
    assert (first.feed, first.hour, first.pages) == ("at://a/b/c", HOUR, 60)
    assert first.empty_pages == 1
    assert first.readers.count() == pytest.approx(40, abs=2)
    assert first.events[:3] == [3, 3, 0]
    assert (second.pages, second.readers.count()) == (3, 0)
    assert [one.feed for one in read_hours(conn, HOUR, feed="at://a/b/d")] == [
        "at://a/b/d"
    ]
    assert read_hours(conn, HOUR + timedelta(hours=1)) == []


def test_counts_that_could_not_be_written_are_kept() -> None:
    counters = FeedCounters(now=lambda: NOW)
    counters.count_page("a", None, 1, 0.004)
    taken = counters.take()
    counters.count_page("a", None, 1, 0.004)
    counters.put_back(taken)
    counters.put_back([FeedHour("b", HOUR, pages=4)])
    assert {one.feed: one.pages for one in counters.take()} == {"a": 2, "b": 4}


def test_counters_are_bounded() -> None:
    counters = FeedCounters(now=lambda: NOW)
    for number in range(MAX_HELD + 5):
        counters.count_page(f"{number}", None, 1, 0.004)
    counters.count_interactions("another", EVENTS[:1])
    counters.put_back([FeedHour("more", HOUR)])
    assert len(counters.take()) == MAX_HELD


def test_totals_are_by_feed_and_old_hours_leave(conn: Conn) -> None:
    for hours in (0, 1, 24 * 91):
        add_hours(
            conn,
            [
                FeedHour("a", HOUR - timedelta(hours=hours), pages=2),
                FeedHour("b", HOUR - timedelta(hours=hours), pages=hours),
            ],
        )
    assert drop_old_hours(conn, HOUR) == 2
    totals = total_by_feed(read_hours(conn, HOUR - KEPT))
    assert [(one.feed, one.pages, one.hour) for one in totals] == [
        ("a", 4, HOUR - timedelta(hours=1)),
        ("b", 1, HOUR - timedelta(hours=1)),
    ]


def test_row_of_an_earlier_version_is_read(conn: Conn) -> None:
    conn.execute(
        "INSERT INTO feed_hour (feed, hour, pages, latency, events)"
        " VALUES ('a', %s, 1, '{1}', '{5}')",
        (HOUR,),
    )
    add_hours(conn, [FeedHour("a", HOUR, pages=1)])
    [hour] = read_hours(conn, HOUR)
    assert (hour.pages, hour.events[0], len(hour.events)) == (2, 5, len(EVENTS))
    assert hour.latency[0] == 1


def test_feeds_lock_in_one_order(index_db: str) -> None:
    """Two processes that write the same feeds do not wait in a circle."""
    hours = [FeedHour(name, HOUR, pages=1) for name in "abc"]
    with psycopg.connect(index_db) as one, psycopg.connect(index_db) as two:
        add_hours(one, hours)
        one.commit()
        add_hours(one, hours[:1])
        two.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            add_hours(two, reversed(hours))
        two.rollback()
        # The second waits at the first feed and holds none of the others.
        add_hours(one, hours[1:])
