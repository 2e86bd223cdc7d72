"""From hosts over real sockets into Postgres, and after faults."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from crawl_author import Author, account_frame, identity_frame, post
from crawl_world import (
    CrawlWorld,
    FakeHost,
    rebuild_root,
    refused,
    wait_for_stream,
    wait_until,
)

from crawler.repos.backfill import Backfill
from protocol.events.frames import encode_error_frame
from protocol.mst import EMPTY_ROOT
from storage.hosts import host_rows
from storage.repos import repo_rows


@pytest.fixture
def world(index_db: str) -> Iterator[CrawlWorld]:
    opened = CrawlWorld(index_db)
    yield opened
    opened.close()


def fill(host: FakeHost, author: Author, count: int, *, tell: bool = True) -> None:
    for n in range(count):
        path = f"app.bsky.feed.post/{author.new_rkey()}"
        author.write([("create", path, post(f"post {n} of {author.did}"))])
        if tell:
            host.send(author.frame)


def texts(world: CrawlWorld) -> int:
    return int(world.query("SELECT count(*) FROM post")[0][0])


def assert_equal(world: CrawlWorld, *authors: Author) -> None:
    """Return the roots rebuilt from the rows are the authors' own."""
    with world.pool.connection() as conn:
        for author in authors:
            assert rebuild_root(conn, author.did) == author.data


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
    # What a fetched repo already held came again on the stream; nothing else fell.
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
    # What is on its way when the host is compared is not behind.
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


def test_gap_is_repaired_with_deletes(world: CrawlWorld) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    fill(host, author, 40)
    with world.crawling():
        wait_until(lambda: world.follows(author))
        paths = sorted(author.records)
        # The stream never sends these.
        author.write([("delete", path, None) for path in paths[:15]])
        author.write([("update", paths[20], post("changed"))])
        fill(host, author, 1)
        wait_until(lambda: world.follows(author))
    assert texts(world) == 40 - 15 + 1
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


@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
@pytest.mark.parametrize("tries", [0, 1], ids=["changes", "whole"])
def test_resync_removes_vanished_records(
    world: CrawlWorld, tries: int, share: float
) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    fill(host, author, 50, tell=False)
    with world.crawling():
        wait_until(lambda: world.follows(author))
    gone = sorted(author.records)[: int(50 * share)]
    author.write([("delete", path, None) for path in gone])
    with world.pool.connection() as conn:
        repo_rows.mark_desynchronized(conn, [author.did], "test")
        # Only the first try asks for what changed since.
        conn.execute("UPDATE repo SET tries = %s", (tries,))
    report = world.tasks().hand_out_backfills()
    assert report["fetched"] == 1
    assert texts(world) == 50 - len(gone)
    assert_equal(world, author)
    rows = world.query("SELECT posts FROM actor_stats")
    assert rows == [(50 - len(gone),)]


def test_commits_during_a_resync_are_applied_after_it(world: CrawlWorld) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    fill(host, author, 10, tell=False)
    served: list[str] = []

    def write_meanwhile(did: str) -> None:
        # The repo's bytes are taken already; these commits come while it is sent.
        if not served:
            served.append(did)
            fill(host, author, 5)
            wait_until(
                lambda: world.query("SELECT count(*) FROM resync_buffer") == [(5,)]
            )

    host.before_repo = write_meanwhile
    with world.crawling():
        wait_until(lambda: world.follows(author) and served)
    assert len(host.repo_requests) == 1, "the buffer made a second fetch needless"
    assert world.query("SELECT count(*) FROM resync_buffer") == [(0,)]
    assert texts(world) == 15
    assert_equal(world, author)


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


def test_refused_repo_leaves_the_queue(world: CrawlWorld) -> None:
    host = world.add_host()
    refusals = {
        "RepoTakendown": "takendown",
        "RepoSuspended": "suspended",
        "RepoDeactivated": "deactivated",
    }
    authors = {}
    for n, error in enumerate(refusals):
        authors[error] = world.add_author(n, host)
        fill(host, authors[error], 1, tell=False)
        host.repo_errors[authors[error].did] = error
    tasks = world.tasks()
    assert tasks.list_repos()["admitted"] == 3
    assert tasks.hand_out_backfills()["failed"] == 3
    rows = dict(world.query("SELECT did, upstream_status FROM actor"))
    assert rows == {authors[error].did: status for error, status in refusals.items()}
    world.execute("UPDATE repo SET next_try = now()")
    assert not any(tasks.hand_out_backfills().values())
    assert len(host.repo_requests) == 3


def test_failing_repo_is_fetched_less_and_less_often(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No repo may be due again within a slow batch.
    monkeypatch.setattr("crawler.repos.backfill._RETRY_BASE", 600.0)
    host = world.add_host()
    foreign, cut, bad = (world.add_author(n, host) for n in range(3))
    other = Author(9)
    for author in (foreign, cut, bad, other):
        fill(host, author, 3, tell=False)
    host.repo_bytes[foreign.did] = other.repo()
    host.repo_bytes[cut.did] = cut.repo()[:-10]
    broken = bytearray(bad.repo())
    broken[-5] ^= 1
    host.repo_bytes[bad.did] = bytes(broken)
    tasks = world.tasks()
    tasks.list_repos()
    for tries in range(1, 9):
        assert tasks.hand_out_backfills()["failed"] == 3
        rows = world.query(
            "SELECT tries, extract(epoch FROM next_try - now())::float FROM repo"
        )
        assert {row[0] for row in rows} == {tries}
        world.execute("UPDATE repo SET next_try = now()")
    assert min(wait for _, wait in rows) > 80_000, "daily from the eighth try on"
    assert texts(world) == 0
    host.repo_bytes.clear()
    assert tasks.hand_out_backfills()["fetched"] == 3
    assert texts(world) == 9


def test_internal_fault_releases_the_repo(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    fill(host, author, 1, tell=False)
    tasks = world.tasks()
    tasks.list_repos()

    async def fail(*_: object) -> None:
        raise KeyError("a fault")

    with monkeypatch.context() as planted:
        planted.setattr(Backfill, "_fetch", fail)
        assert tasks.hand_out_backfills()["failed"] == 1
    sql = "SELECT tries, state, lease_until IS NULL FROM repo"
    assert world.query(sql) == [(1, "desynchronized", True)]


def test_older_copy_of_a_repo_is_ignored(world: CrawlWorld) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    fill(host, author, 3)
    stale = author.repo()
    fill(host, author, 3)
    with world.crawling():
        wait_until(lambda: world.follows(author))
    host.repo_bytes[author.did] = stale
    with world.pool.connection() as conn:
        repo_rows.mark_desynchronized(conn, [author.did], "test")
    assert world.tasks().hand_out_backfills()["failed"] == 1
    assert texts(world) == 6


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


def test_repeated_and_reordered_tasks_change_nothing(world: CrawlWorld) -> None:
    host = world.add_host()
    authors = [world.add_author(n, host) for n in range(5)]
    for author in authors:
        fill(host, author, 3, tell=False)
    tasks = world.tasks()
    work = [
        tasks.refresh_identities,
        tasks.hand_out_backfills,
        tasks.poll_quiet_hosts,
        tasks.list_repos,
        tasks.discover_hosts,
    ]
    for _ in range(3):
        with ThreadPoolExecutor(15) as threads:
            for done in [threads.submit(task) for task in work * 3]:
                done.result(60)
    assert world.follows(*authors)
    assert sorted(host.repo_requests) == sorted(author.did for author in authors)
    assert texts(world) == 15
    assert world.query("SELECT * FROM lease") == []


def test_reactivated_account_is_fetched_at_once(world: CrawlWorld) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    fill(host, author, 3, tell=False)
    host.repo_errors[author.did] = "RepoDeactivated"
    host.statuses[author.did] = "deactivated"
    with world.pool.connection() as conn:
        repo_rows.add_repos(conn, 1, [author.did])
    statuses = "SELECT upstream_status FROM actor"
    with world.crawling():
        wait_until(lambda: world.query(statuses) == [("deactivated",)])
        wait_for_stream(host)
        host.repo_errors.clear()
        host.statuses.clear()
        host.send(lambda seq: account_frame(author.did, seq, True))
        wait_until(lambda: world.follows(author))
    assert world.query(statuses) == [("active",)]
    assert_equal(world, author)


def test_throttled_account_is_fetched_after_its_cooldown(
    world: CrawlWorld,
) -> None:
    host = world.add_host(source=host_rows.SOURCE_REQUEST_CRAWL)
    hot, calm = (world.add_author(n, host) for n in (1, 2))
    settings = {
        # Ten commits at once.
        "account_commits_per_s": 0.1,
        "account_cooldown": 3.0,
        # Nothing else heals what is lost.
        "listing_interval": 3_600.0,
    }
    with world.crawling(**settings):
        wait_for_stream(host)
        fill(host, calm, 1)
        fill(host, hot, 1)
        wait_until(lambda: world.follows(hot, calm))
        wait_until(lambda: world.query("SELECT listed_at FROM host") != [(None,)])
        fetched = len(host.repo_requests)
        frames = []
        for seq in range(host.frames[-1][0] + 1, host.frames[-1][0] + 201):
            path = f"app.bsky.feed.post/{hot.new_rkey()}"
            hot.write([("create", path, post(str(seq)))])
            frames.append((seq, hot.frame(seq)))
        host.frames += frames
        fill(host, calm, 1)
        wait_until(lambda: world.follows(calm))
        wait_until(lambda: world.drops().get("throttled", 0) > 150)
        wait_until(lambda: world.follows(hot), 60)
        # A few times at most, not for each commit.
        assert len(host.repo_requests) - fetched <= 3
    assert_equal(world, hot, calm)
