"""From hosts over real sockets into Postgres, and after faults."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest
from crawl_author import Author, account_frame, identity_frame
from crawl_world import CrawlWorld, refused, wait_for_stream, wait_until
from firehose_rows import assert_equal, fill, texts

from protocol.events.frames import encode_error_frame
from protocol.mst import EMPTY_ROOT
from storage.hosts import host_rows


def test_old_and_new_accounts_of_a_host_are_indexed(world: CrawlWorld) -> None:
    host = world.add_host()
    old = [world.add_author(n, host, "p256" if n % 2 else "k256") for n in range(6)]
    for author in old:
        fill(host, author, 5, tell=False)
    with world.crawling():
        # The listing finds older records than the tip of the stream.
        wait_until(lambda: world.follows(*old))
        new = world.add_author(50, host)
        host.send(lambda seq: identity_frame(new.did, seq))
        host.send(lambda seq: account_frame(new.did, seq, True))
        fill(host, new, 3)
        for author in old:
            fill(host, author, 4)
        wait_until(lambda: world.follows(new, *old))
    assert texts(world) == 6 * 9 + 3
    assert_equal(world, new, *old)
    # Only commits that a fetched repo already held are dropped, and first frames.
    assert set(world.drops()) <= {"desynchronized", "stale_rev", "unknown_account"}
    with world.crawling():
        fill(host, new, 2)
        wait_until(lambda: world.follows(new))
    assert_equal(world, new)


def test_account_without_posts_is_indexed(world: CrawlWorld) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    author.write([])
    with world.crawling():
        host.send(author.frame)
        wait_until(lambda: world.follows(author))
    assert author.data == EMPTY_ROOT


def test_no_commit_is_lost_between_two_runs(world: CrawlWorld) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    fill(host, author, 3)
    # A frame on its way when the host is compared is not behind.
    with world.crawling(listing_settle=1.0):
        wait_until(lambda: world.follows(author))
        wait_for_stream(host)
        fill(host, author, 1)
        wait_until(lambda: world.follows(author))
    fill(host, author, 50)
    with world.crawling(listing_settle=1.0):
        wait_until(lambda: world.follows(author))
    # The stream brought it all; the repo was fetched once.
    assert len(host.repo_requests) == 1
    assert_equal(world, author)


def test_commit_before_the_stream_position_is_found(world: CrawlWorld) -> None:
    # The connection stands and the host has been compared, but it does not send yet.
    host = world.add_host()
    early, later = world.add_author(1, host), world.add_author(2, host)
    for author in (early, later):
        fill(host, author, 1, tell=False)
    compared = threading.Event()
    waited: list[bool] = []
    host.before_place = lambda: waited.append(compared.wait(20))
    with world.crawling():
        wait_until(lambda: world.follows(early, later))
        fill(host, early, 1)
        compared.set()
        wait_for_stream(host)
        assert not world.follows(early)
        fill(host, later, 1)
        wait_until(lambda: world.follows(early, later))
    assert waited == [True]
    assert_equal(world, early, later)


def test_three_hostile_hosts_change_nothing_of_eight_honest_ones(
    world: CrawlWorld,
) -> None:
    honest = [world.add_host() for _ in range(8)]
    liars = [world.add_host(source=host_rows.SOURCE_REQUEST_CRAWL) for _ in range(3)]
    authors = {}
    for n, host in enumerate(honest):
        authors[n] = world.add_author(n, host)
        fill(host, authors[n], 5)
    with world.crawling(strike_limit=10_000) as firehose:
        wait_until(lambda: firehose.streams == 11)
        wait_for_stream(*honest, *liars)
        for liar in liars:
            for n, author in authors.items():
                # A copy of the account signed with another key, and what the account
                # itself signed, from the wrong mouth.
                forger = Author(n)
                forger.key = Author(777).key
                fill(liar, forger, 3)
                liar.send(author.frame)
                liar.send(lambda seq, did=author.did: account_frame(did, seq, False))
                liar.authors[author.did] = forger
        wait_until(lambda: world.follows(*authors.values()))
        for n, host in enumerate(honest):
            fill(host, authors[n], 3)
        wait_until(lambda: world.follows(*authors.values()))
        wait_until(lambda: refused(world) >= 3 * 8 * 5)
    assert_equal(world, *authors.values())
    assert texts(world) == 8 * 8
    rows = world.query("SELECT accounts FROM host WHERE source = 'request_crawl'")
    assert rows == [(0,)] * 3
    assert world.query("SELECT DISTINCT upstream_status FROM actor") == [("active",)]
    assert refused(world) == 3 * 8 * 5


def test_host_with_invalid_frames_is_throttled(world: CrawlWorld) -> None:
    host = world.add_host()
    liar = world.add_host(source=host_rows.SOURCE_REQUEST_CRAWL)
    author = world.add_author(1, host)
    fill(host, author, 2)
    with world.crawling(strike_limit=20):
        # Frames of unknown accounts are no strikes.
        wait_until(lambda: world.follows(author))
        wait_for_stream(liar)
        for _ in range(30):
            liar.send(author.frame)
        wait_until(
            lambda: (
                world.query("SELECT state FROM host WHERE source = 'request_crawl'")
                == [("throttled",)]
            )
        )
        fill(host, author, 2)
        wait_until(lambda: world.follows(author))


@pytest.mark.parametrize("lenient", [False, True])
def test_host_with_reset_sequence_is_compared_in_full(
    world: CrawlWorld, lenient: bool
) -> None:
    host = world.add_host()
    host.lenient = lenient
    author = world.add_author(1, host)
    cursor = "SELECT seq FROM host_cursor"
    with world.crawling():
        wait_for_stream(host)
        fill(host, author, 15)
        wait_until(lambda: world.follows(author))
    assert world.query(cursor) == [(15,)]
    world.execute("UPDATE host_cursor SET seq = 1000000")
    # Restored from a backup: the stream starts again, and lost some events.
    host.frames.clear()
    fill(host, author, 5, tell=False)
    host.send(lambda seq: account_frame(author.did, seq, True))

    def begun_anew() -> bool:
        fill(host, author, 12)
        time.sleep(0.3)
        held = world.query(cursor)
        return bool(held) and held[0][0] < 1_000_000

    with world.crawling():
        wait_until(begun_anew, seconds=30)
        wait_until(lambda: world.follows(author))
        fill(host, author, 2)
        wait_until(lambda: world.follows(author))
    assert_equal(world, author)


def test_broken_frame_does_not_stop_the_stream_forever(world: CrawlWorld) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    fill(host, author, 2)
    with world.crawling():
        wait_until(lambda: world.follows(author))
        broken = encode_error_frame("Oops", "…")
        host.send(lambda seq: broken)
        fill(host, author, 2)
        wait_until(lambda: world.query("SELECT max(tries) FROM host")[0][0] >= 1)
        # The host repairs its stream.
        host.frames = [event for event in host.frames if event[1] != broken]
        world.execute("UPDATE host SET next_try = now()")
        wait_until(lambda: world.follows(author))
    assert_equal(world, author)


def test_quiet_host_is_polled_then_streamed(world: CrawlWorld) -> None:
    host = world.add_host(source="request_crawl")
    author = world.add_author(1, host)
    fill(host, author, 2)
    quiet = {"stream_dwell": 0.0, "quiet_rate": 1e9, "busy_rate": 2e9}
    busy = {"busy_rate": 0.0}
    with world.crawling() as firehose:
        for _ in range(3):
            wait_until(lambda: world.follows(author))
            assert world.tasks(**quiet).balance_hosts()["rested"] == 1
            wait_until(lambda: firehose.streams == 0)
            fill(host, author, 2)
            tasks = world.tasks(poll_interval=0.0)
            wait_until(lambda tasks=tasks: tasks.poll_quiet_hosts().get("behind") == 1)  # type: ignore[misc]
            wait_until(lambda: world.follows(author))
            # The stream brings all later events, from its cursor.
            fill(host, author, 2)
            assert world.tasks(**busy).balance_hosts()["streamed"] == 1
            wait_until(lambda: world.follows(author))
            wait_until(lambda: firehose.streams == 1)
            fill(host, author, 1)
        wait_until(lambda: world.follows(author))
    assert_equal(world, author)
    assert world.query("SELECT state, mode FROM host") == [("streaming", "stream")]


def test_only_one_crawler_works_at_a_time(world: CrawlWorld) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    fill(host, author, 2)
    with world.crawling() as first:
        wait_until(lambda: world.follows(author))
        with world.crawling() as second:
            fill(host, author, 2)
            wait_until(lambda: world.follows(author))
            assert (first.streams, second.streams) == (1, 0)
    assert_equal(world, author)


def test_gap_before_the_hosts_window_is_found_by_comparing(world: CrawlWorld) -> None:
    host = world.add_host()
    busy, quiet = world.add_author(1, host), world.add_author(2, host)
    with world.crawling():
        wait_for_stream(host)
        fill(host, busy, 2)
        fill(host, quiet, 2)
        wait_until(lambda: world.follows(busy, quiet))
    fill(host, quiet, 3)
    fill(host, busy, 3)
    # Our place in the stream falls out of the host's window.
    del host.frames[:-1]
    with world.crawling():
        wait_until(lambda: world.follows(busy, quiet))
    assert_equal(world, busy, quiet)


def test_stop_does_not_wait_for_a_lost_database(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    away = False
    real = world.sink.apply

    def apply(*args: Any) -> Any:
        if away:
            raise psycopg.OperationalError("away")
        return real(*args)

    monkeypatch.setattr(world.sink, "apply", apply)
    with world.crawling():
        wait_for_stream(host)
        fill(host, author, 1)
        wait_until(lambda: world.follows(author))
        away = True
        fill(host, author, 3)
        time.sleep(0.5)
        started = time.monotonic()
    assert time.monotonic() - started < 15
    away = False
    with world.crawling():
        wait_until(lambda: world.follows(author))
    assert_equal(world, author)
