"""Repos that are fetched again: after gaps, failures, refusals and throttling."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from crawl_author import Author, account_frame, post
from crawl_world import CrawlWorld, wait_for_stream, wait_until
from firehose_rows import assert_equal, fill, texts

from crawler.repos.backfill import Backfill
from storage.hosts import host_rows
from storage.repos import repo_rows


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


def test_throttled_account_is_fetched_after_its_cooldown(world: CrawlWorld) -> None:
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
