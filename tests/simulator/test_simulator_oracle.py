"""The simulated network and its oracle: both must detect faults."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from notice_model import NoticeModel
from notice_reader import NOTICES, find_notice_faults, serving
from oracle import Expected
from private_rows import private_answers, private_rows, write_private_state
from simulated_accounts import DELETED, SimulatedAccounts
from simulated_network import Faults, SimulatedNetwork
from simulation import Simulation

# A fault in the index -> a word of the line that reports it.
SPOILED = {
    "UPDATE repo SET rev = '3aaaaaaaaaa2a' WHERE actor = %(actor)s": "rev",
    "UPDATE repo SET data = commit WHERE actor = %(actor)s": "root",
    "UPDATE repo SET state = 'desynchronized' WHERE actor = %(actor)s": "state",
    "UPDATE repo SET host = NULL WHERE actor = %(actor)s": "home",
    "UPDATE actor SET upstream_status = 'takendown' WHERE id = %(actor)s": "status",
    "UPDATE actor SET handle = 'else.test' WHERE id = %(actor)s": "handle",
    "DELETE FROM record WHERE ctid = (SELECT ctid FROM record WHERE actor = %(actor)s"
    " LIMIT 1) AND actor = %(actor)s": "missing",
    "INSERT INTO record SELECT actor, collection, rkey + 1024, value FROM record"
    " WHERE actor = %(actor)s ORDER BY rkey DESC LIMIT 1": "should not be there",
    "UPDATE record SET value = (SELECT value FROM record WHERE actor <> %(actor)s"
    " LIMIT 1) WHERE actor = %(actor)s": "other bytes",
    "DELETE FROM post WHERE actor = %(actor)s": "rows of posts",
    "UPDATE post_stats SET likes = likes + 1": "likes",
    "UPDATE post_stats SET reposts = reposts + 1": "reposts",
    "UPDATE post_stats SET replies = replies + 1": "replies",
    "UPDATE actor_stats SET followers = followers + 1": "followers",
    "UPDATE actor_stats SET follows = follows - 1 WHERE follows > 0": "follows",
    "UPDATE actor_stats SET posts = posts + 1 WHERE actor = %(actor)s": "posts",
    "UPDATE host_cursor SET seq = seq - 1": "cursor",
    "INSERT INTO resync_buffer (actor, seq, event) VALUES (%(actor)s, 1, '')": "wait",
    "INSERT INTO search_outbox (actor, collection, rkey) VALUES (1, 0, 0)": "wait",
    "DELETE FROM search_actor WHERE actor = %(actor)s": "accounts in search",
    "DELETE FROM search_document_0 WHERE actor = %(actor)s": "posts in search",
}


@pytest.fixture(scope="module")
def settled(
    databases: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Simulation]:
    """Read a small network to its end, without a fault."""
    url = databases.make("index")  # type: ignore[attr-defined]
    network = SimulatedNetwork(hosts=3, accounts=9, seed=5)
    run = Simulation(
        url, tmp_path_factory.mktemp("settled"), network, search=True, handles=True
    )
    try:
        run.crawler.start()
        for sent in network.population.begin():
            network.take(sent)
        for sent in network.population.live(250):
            network.take(sent)
        assert run.settle(60) == []
        run.stop()
        yield run
    finally:
        run.close()
        network.close()
        databases.drop(url)  # type: ignore[attr-defined]


def test_network_without_faults_is_read_to_its_end(settled: Simulation) -> None:
    assert settled.find_faults() == []
    assert sum(len(m.records) for m in settled.network.population.members) > 150
    assert settled.network.canary.connections == 0


def test_every_reason_notifies_as_the_records_say(settled: Simulation) -> None:
    accounts = settled.oracle().accounts
    inboxes = NoticeModel(accounts).inboxes()
    reasons = Counter(min(g).reason for gs in inboxes.groups.values() for g in gs)
    assert reasons.keys() == {
        *("like", "repost", "follow", "mention", "quote", "reply", "verified"),
        *("like-via-repost", "repost-via-repost", "starterpack-joined"),
    }
    assert settled.find_notice_faults() == []


def test_model_reports_each_fault(settled: Simulation) -> None:
    accounts = settled.oracle().accounts
    inboxes = NoticeModel(accounts).inboxes()
    who = max(inboxes.groups, key=lambda did: len(inboxes.groups[did]))
    with serving(settled.url, settled.url) as provider:
        name = who.removeprefix("did:plc:")
        pages = provider.pages(NOTICES, "notifications", viewer=name, limit=100)
    assert len(pages) > 10
    assert inboxes.compare(who, pages) == []
    first, *others = pages
    dated = next(notice for notice in pages if "createdAt" in notice["record"])
    about_other = {**first, "reasonSubject": f"at://{who}/a.b.c/d"}
    for wrong, word in (
        (others, "was not notified of"),
        ([first, *pages], "2 times"),
        ([*others, first], "out of order"),
        ([about_other, *others], "was notified of"),
        ([dated | {"indexedAt": "2031-01-01T00:00:00.000Z"}], "at 2031"),
    ):
        assert any(word in fault for fault in inboxes.compare(who, wrong)), word
    elsewhere = next(did for did in inboxes.groups if did != who)
    assert inboxes.compare(elsewhere, pages) != []


def test_lost_rows_are_lost_notices(settled: Simulation) -> None:
    accounts = settled.oracle().accounts
    tables = ("distant_reply", "link_via")
    with psycopg.connect(settled.url, autocommit=True) as conn:
        rows = {
            table: conn.execute(f"DELETE FROM {table} RETURNING *").fetchall()
            for table in tables
        }
        with serving(settled.url, settled.url) as provider:
            faults = find_notice_faults(provider, accounts, most=1_000)
        for table, lost in rows.items():
            marks = ", ".join(["%s"] * len(lost[0]))
            with conn.cursor() as cursor:
                cursor.executemany(f"INSERT INTO {table} VALUES ({marks})", lost)
    for reason in ("reply", "via-repost"):
        assert any(f"{reason}'" in fault for fault in faults), reason


def test_rebuilt_index_keeps_private_state_and_notifications(
    settled: Simulation, databases: Any, tmp_path: Path
) -> None:
    private, index = databases.make("index"), databases.make("index")
    accounts = settled.oracle().accounts
    try:
        with serving(settled.url, private) as provider:
            write_private_state(provider, accounts)
            before = private_answers(provider, accounts)
        rows = private_rows(private)
        run = Simulation(index, tmp_path, settled.network, search=True, handles=True)
        try:
            run.crawler.start()
            assert run.settle(60) == []
            run.stop()
        finally:
            run.close()
        with serving(index, private) as provider:
            assert private_answers(provider, accounts) == before
        assert private_rows(private) == rows
        with serving(index, index) as provider:
            assert find_notice_faults(provider, accounts) == []
    finally:
        databases.drop(index)
        databases.drop(private)


@pytest.mark.parametrize("wrong", SPOILED)
def test_oracle_reports_each_fault(settled: Simulation, wrong: str) -> None:
    with psycopg.connect(settled.url) as conn:
        row = conn.execute(
            "SELECT actor FROM post GROUP BY actor ORDER BY count(*) DESC"
        ).fetchone()
        assert row is not None
        changed = conn.execute(wrong.encode(), {"actor": row[0]}).rowcount
        assert changed > 0
        faults = settled.oracle().find_faults(conn)
        conn.rollback()
    assert any(SPOILED[wrong] in fault for fault in faults), faults


def test_oracle_accepts_an_account_that_ended_before_it_was_admitted(
    settled: Simulation,
) -> None:
    did = "did:plc:endedbeforeitwasadmitt"
    oracle = settled.oracle()
    oracle.accounts.append(Expected(did, "", b"", {}, "", status=DELETED))
    with psycopg.connect(settled.url) as conn:
        assert oracle.find_faults(conn) == []
        # Records of others name it.
        conn.execute("INSERT INTO actor (did) VALUES (%s)", (did,))
        assert oracle.find_faults(conn) == []
        conn.execute(
            "INSERT INTO repo (actor, host) SELECT id, 1 FROM actor WHERE did = %s",
            (did,),
        )
        faults = oracle.find_faults(conn)
        conn.rollback()
    assert faults == [f"{did}: status 'active' instead of 'deleted'"]


def test_accounts_of_one_seed_have_the_same_frames() -> None:
    def draw(seed: int) -> list[bytes]:
        population = SimulatedAccounts(6, ["a", "b"], seed=seed)
        frames = [*population.begin(), *population.live(120, lively=0.1)]
        return [sent.raw for sent in frames]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_live_produces_every_kind_of_event() -> None:
    population = SimulatedAccounts(12, ["a", "b", "c"], seed=8)
    sent = [*population.begin(), *population.live(600, lively=0.2)]
    assert set(population.happened) == {
        "new key",
        "move",
        "new handle",
        "rest",
        "come back",
        "end",
    }
    for host in population.hosts:
        numbers = [frame.seq for frame in sent if frame.host == host]
        assert numbers == sorted(set(numbers))


@pytest.mark.slow
def test_throttled_accounts_end_as_expected(index_db: str, tmp_path: Path) -> None:
    network = SimulatedNetwork(hosts=3, accounts=15, seed=6)
    settings = {
        # Twenty commits at once.
        "account_commits_per_s": 0.2,
        "account_cooldown": 1.0,
        "listing_interval": 3_600.0,
        "refresh_interval": 1.0,
    }
    run = Simulation(index_db, tmp_path, network, settings=settings)
    with psycopg.connect(index_db) as conn:
        # Configured hosts are not throttled.
        conn.execute("UPDATE host SET source = 'request_crawl'")
    try:
        run.crawler.start()
        for sent in network.population.begin():
            network.take(sent)
        # Frames of unknown accounts are dropped before they count.
        run.wait_for_repos(15)
        run.publish(network.population.live(300)).join()
        # No listing may find what was lost.
        end = time.monotonic() + 120
        while (faults_left := run.find_faults()) and time.monotonic() < end:
            time.sleep(0.5)
        assert faults_left == [], run.describe()
        drops = run.drops()
        assert 20 < drops["throttled"] < 280, drops
        healed = {"throttled", "desynchronized", "stale_rev", "unknown_account"}
        assert drops.keys() <= healed, drops
    finally:
        run.close()
        network.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11])
def test_network_with_faults_ends_as_expected(
    index_db: str, tmp_path: Path, seed: int
) -> None:
    end_as_expected(index_db, tmp_path, seed, accounts=18, frames=250)


@pytest.mark.long
@pytest.mark.parametrize("seed", [12, 13, 14, 15, 16])
def test_large_networks_with_faults_end_as_expected(
    index_db: str, tmp_path: Path, seed: int
) -> None:
    end_as_expected(index_db, tmp_path, seed, accounts=100, frames=4_000)


def end_as_expected(
    url: str, folder: Path, seed: int, *, accounts: int, frames: int
) -> None:
    """Run with every kind of fault and account event; all must heal."""
    faults = Faults(lost=0.02, repeated=0.02, cut=0.2, refused=0.3, directory_down=0.05)
    network = SimulatedNetwork(hosts=6, accounts=accounts, seed=seed, faults=faults)
    settings = {
        "refresh_interval": 0.5,
        "listing_settle": 0.0,
        "listing_interval": 3.0,
        # A busy machine must not restart fetches.
        "backfill_lease": 30.0,
    }
    run = Simulation(url, folder, network, search=True, handles=True, settings=settings)
    try:
        run.crawler.start()
        population = network.population
        for sent in population.begin():
            network.take(sent)
        run.publish(population.live(frames, lively=0.05)).join()
        run.bring_back()
        faults.lost = 0.0
        faults_left = run.settle(240)
        assert faults_left == [], run.describe()
        assert run.find_notice_faults() == []
        assert set(faults.seen) == {
            "lost",
            "repeated",
            "cut",
            "refused",
            "directory_down",
        }
        assert len(population.happened) == 6, population.happened
        assert network.canary.connections == 0
    finally:
        run.close()
        network.close()
