"""The network that is simulated, and what judges it: both must see what is wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from simulated_network import Faults, SimulatedNetwork
from simulated_society import SimulatedSociety
from simulation import Simulation

# Each is one thing done wrong in the index, and a word of the line that tells of it.
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
    "DELETE FROM search_document WHERE actor = %(actor)s": "posts in search",
}


@pytest.fixture(scope="module")
def settled(
    databases: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Simulation]:
    """A small network that was read to its end, without a fault."""
    url = databases.make("index")  # type: ignore[attr-defined]
    network = SimulatedNetwork(hosts=3, accounts=9, seed=5)
    run = Simulation(
        url, tmp_path_factory.mktemp("settled"), network, search=True, handles=True
    )
    try:
        run.crawler.start()
        for sent in network.society.begin():
            network.take(sent)
        for sent in network.society.live(250):
            network.take(sent)
        assert run.settle(60) == []
        run.stop()
        yield run
    finally:
        run.close()
        network.close()
        databases.drop(url)  # type: ignore[attr-defined]


def test_a_network_without_faults_is_read_to_its_end(settled: Simulation) -> None:
    assert settled.find_faults() == []
    assert sum(len(m.records) for m in settled.network.society.members) > 150
    assert settled.network.canary.connections == 0


@pytest.mark.parametrize("wrong", SPOILED)
def test_whatever_is_wrong_is_seen(settled: Simulation, wrong: str) -> None:
    """The oracle itself is tested: one wrong thing at a time, undone afterwards."""
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


def test_the_same_seed_gives_the_same_network() -> None:
    def draw(seed: int) -> list[bytes]:
        society = SimulatedSociety(6, ["a", "b"], seed=seed)
        frames = [*society.begin(), *society.live(120, lively=0.1)]
        return [sent.raw for sent in frames]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_everything_happens_in_a_lively_society() -> None:
    society = SimulatedSociety(12, ["a", "b", "c"], seed=8)
    sent = [*society.begin(), *society.live(600, lively=0.2)]
    assert set(society.happened) == {
        "new key",
        "move",
        "new handle",
        "rest",
        "come back",
        "end",
    }
    for host in society.hosts:
        numbers = [frame.seq for frame in sent if frame.host == host]
        assert numbers == sorted(set(numbers))


@pytest.mark.slow
def test_accounts_that_write_too_much_end_as_the_oracle_says(
    index_db: str, tmp_path: Path
) -> None:
    """Those who write most are left alone again and again, among others who are not."""
    network = SimulatedNetwork(hosts=3, accounts=30, seed=6)
    settings = {
        # Twenty commits at once.
        "account_commits_per_s": 0.2,
        "account_cooldown": 1.0,
        "listing_interval": 3_600.0,
    }
    run = Simulation(index_db, tmp_path, network, settings=settings)
    with psycopg.connect(index_db) as conn:
        # Our operator's own may write what they like.
        conn.execute("UPDATE host SET source = 'request_crawl'")
    try:
        run.crawler.start()
        for sent in network.society.begin():
            network.take(sent)
        run.publish(network.society.live(500)).join()
        # Without a list of anybody's, which would find whatever was lost.
        end = time.monotonic() + 120
        while (faults_left := run.find_faults()) and time.monotonic() < end:
            time.sleep(0.5)
        assert faults_left == [], run.describe()
        drops = run.drops()
        assert 20 < drops["throttled"] < 480, drops
        assert drops.keys() <= {"throttled", "desynchronized", "stale_rev"}, drops
    finally:
        run.close()
        network.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11])
def test_a_lively_network_with_faults_ends_as_the_oracle_says(
    index_db: str, tmp_path: Path, seed: int
) -> None:
    end_as_the_oracle_says(index_db, tmp_path, seed, accounts=24, frames=400)


@pytest.mark.long
@pytest.mark.parametrize("seed", [12, 13, 14, 15, 16])
def test_lively_networks_end_as_the_oracle_says(
    index_db: str, tmp_path: Path, seed: int
) -> None:
    end_as_the_oracle_says(index_db, tmp_path, seed, accounts=100, frames=4_000)


def end_as_the_oracle_says(
    url: str, folder: Path, seed: int, *, accounts: int, frames: int
) -> None:
    """Frames get lost, come twice, streams break, repos and the directory are refused;
    keys, hosts, handles and statuses change: all of it happens, and all of it heals."""
    faults = Faults(lost=0.02, repeated=0.02, cut=0.2, refused=0.3, directory_down=0.05)
    network = SimulatedNetwork(hosts=6, accounts=accounts, seed=seed, faults=faults)
    settings = {
        "refresh_interval": 0.5,
        "listing_settle": 0.0,
        "listing_interval": 3.0,
        # Nobody dies here: no fetch may be begun anew because the machine is busy.
        "backfill_lease": 30.0,
    }
    run = Simulation(url, folder, network, search=True, handles=True, settings=settings)
    try:
        run.crawler.start()
        society = network.society
        for sent in society.begin():
            network.take(sent)
        run.publish(society.live(frames, lively=0.05)).join()
        run.bring_back()
        faults.lost = 0.0
        faults_left = run.settle(240)
        assert faults_left == [], run.describe()
        assert set(faults.seen) == {
            "lost",
            "repeated",
            "cut",
            "refused",
            "directory_down",
        }
        assert len(society.happened) == 6, society.happened
        assert network.canary.connections == 0
    finally:
        run.close()
        network.close()
