"""Twenty-four kinds of hostile host beside eight honest ones.

The crawler runs on a network where loopback is forbidden. Honest data must match the
oracle, no forged row may remain, memory stays bounded, and 127.0.0.1 is never called.
Each kind must carry out its attack and be counted under the right reason.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hostile_accounts import ACCOUNT_KINDS, cut_places
from hostile_bodies import BODY_KINDS
from hostile_host import FORGED, HostileHost, Seen, bomb
from hostile_streams import STREAM_KINDS
from simulated_network import SimulatedNetwork, put_host
from simulation import Simulation

from crawler.hosts.host_name import HostName
from protocol.data import cbor
from protocol.data.cid import cid_for
from protocol.repo.car import car_block, car_header
from storage.hosts import host_rows
from storage.postgres.pool import Conn
from storage.records.record_codec import compress, decompress
from storage.repos import repo_rows

KINDS = (*STREAM_KINDS, *ACCOUNT_KINDS, *BODY_KINDS)
SETTINGS = {
    "strike_limit": 10**6,
    "refresh_interval": 5.0,
    "listing_settle": 0.0,
    "flush_interval": 0.2,
}
TIMES = {"first": 0.2, "longest": 2.0, "ping_after": 3.0, "pong_within": 3.0}
# Well above normal use, well below what a bomb or an endless repo would take.
MEMORY_MIB = 512


class Zoo:
    """The whole network, and what the index recorded of it."""

    def __init__(self, url: str, folder: Path, *, accounts: int, seed: int) -> None:
        self.network = SimulatedNetwork(hosts=8, accounts=accounts, seed=seed)
        self.hostile: list[HostileHost] = []
        self.rows: dict[int, list[int]] = {}
        self.errors: defaultdict[int, set[str]] = defaultdict(set)
        self.began = time.monotonic()
        for kind in sorted(KINDS, key=lambda kind: kind.number):
            host = kind(self.network)
            self.network.add(host)
            host.prepare()
            self.hostile.append(host)
        self.run = Simulation(
            url,
            folder,
            self.network,
            settings=SETTINGS,
            times=TIMES,
            policy={"floor_window": 10.0},
        )
        with psycopg.connect(url) as conn:
            for host in self.hostile:
                self.rows[host.number] = [self._put(conn, u) for u in host.urls()]
                if host.own_dids():
                    repo_rows.add_repos(
                        conn, self.rows[host.number][0], host.own_dids(), wait=1.0
                    )
        self.run.others = [truth for host in self.hostile for truth in host.truth()]
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._note_errors)
        self._watcher.start()

    @staticmethod
    def _put(conn: Conn, url: str) -> int:
        if "127." in url:
            return put_host(conn, url, host_rows.SOURCE_REQUEST_CRAWL)
        # A name that only the simulated DNS knows.
        name = HostName(url.removeprefix("http://"))
        return host_rows.put_host(
            conn, name, url, source=host_rows.SOURCE_REQUEST_CRAWL
        )[0]

    def close(self) -> None:
        self._ended.set()
        self._watcher.join(30)
        self.run.close()
        self.network.close()

    def _note_errors(self) -> None:
        """Collect the errors of hosts, which the next success clears."""
        query = "SELECT id, error FROM host WHERE error IS NOT NULL"
        with psycopg.connect(self.run.url, autocommit=True) as conn:
            while not self._ended.wait(0.02):
                for row, error in conn.execute(query):
                    self.errors[row].add(error)

    def live(self, frames: int, *, rate: float) -> None:
        """Let honest accounts write at a steady pace."""
        run, population = self.run, self.network.population
        run.crawler.start()
        run.watch()
        births = list(population.begin())
        for sent in births:
            self.network.take(sent)
        # Measure the steady pace, not the first connections.
        run.wait_for_progress(len(births) - 1, 60.0)
        publisher = run.publish(population.live(frames), rate=rate)
        while publisher.is_alive():
            publisher.join(0.2)

    def find_faults(self) -> list[str]:
        return [
            f"{type(host).__name__}: {fault}"
            for host in self.hostile
            for fault in host.find_faults(self._seen(host))
        ]

    def settle(self, seconds: float) -> list[str]:
        """Wait until all is as expected; return the faults left after `seconds`."""
        end = time.monotonic() + seconds
        while True:
            faults = self.run.find_faults() + self.find_faults()
            if not faults or time.monotonic() > end:
                return faults
            time.sleep(0.5)

    def _seen(self, host: HostileHost) -> Seen:
        drops: defaultdict[str, int] = defaultdict(int)
        errors: set[str] = set()
        accounts = 0
        for row in self.rows[host.number]:
            for reason, count in self.run.drops(row).items():
                drops[reason] += count
            errors |= self.errors[row]
            with psycopg.connect(self.run.url) as conn:
                found = conn.execute(
                    "SELECT count(*) FROM repo WHERE host = %s", (row,)
                ).fetchone()
                accounts += found[0] if found else 0
        return Seen(
            drops,
            frozenset(errors),
            accounts,
            dict(self.network.directory.asked),
            time.monotonic() - self.began,
        )

    def forged_rows(self) -> list[str]:
        """Return the DIDs of forged records."""
        with psycopg.connect(self.run.url) as conn:
            return [
                did
                for did, value in conn.execute(
                    "SELECT did, value FROM record JOIN actor ON actor.id = actor"
                )
                if FORGED.encode() in decompress(value)
            ]


@contextlib.contextmanager
def open_zoo(url: str, folder: Path, **changes: Any) -> Iterator[Zoo]:
    zoo = Zoo(url, folder, **changes)
    try:
        yield zoo
    finally:
        zoo.close()


def hold(zoo: Zoo, frames: int, *, rate: float, patience: float) -> None:
    began = time.monotonic()
    zoo.live(frames, rate=rate)
    faults = zoo.settle(patience)
    assert faults == [], "\n".join([*faults, zoo.run.describe()])
    assert zoo.forged_rows() == []
    assert zoo.network.canary.connections == 0
    assert max(zoo.run.memory_mib) < MEMORY_MIB
    assert zoo.run.lags.still_waiting == 0
    cpu, wall = zoo.run.crawler.cpu_seconds, time.monotonic() - began
    zoo.run.stop()
    lags = zoo.run.lags
    print(
        f"\nhonest frames {len(lags.seconds)}, lag p50 {lags.percentile(0.5):.2f} s,"
        f" p99 {lags.percentile(0.99):.2f} s, most {max(lags.seconds):.2f} s;"
        f" memory at most {max(zoo.run.memory_mib):.0f} MiB;"
        f" the crawler had {cpu:.0f} s of CPU in {wall:.0f} s"
    )


def test_hostile_kinds_are_numbered_and_distinct() -> None:
    assert sorted(kind.number for kind in KINDS) == list(range(1, 25))
    assert len({kind.fault for kind in KINDS}) == 24


@pytest.mark.slow
def test_honest_data_survives_hostile_hosts(index_db: str, tmp_path: Path) -> None:
    with open_zoo(index_db, tmp_path, accounts=24, seed=8) as zoo:
        hold(zoo, 300, rate=60, patience=180)


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_honest_data_survives_hostile_hosts_for_minutes(
    index_db: str, tmp_path: Path
) -> None:
    with open_zoo(index_db, tmp_path, accounts=100, seed=9) as zoo:
        hold(zoo, 15_000, rate=60, patience=240)


def test_attacks_that_never_happened_are_reported(
    index_db: str, tmp_path: Path
) -> None:
    with open_zoo(index_db, tmp_path, accounts=8, seed=10) as zoo:
        met = {fault.partition(":")[0] for fault in zoo.find_faults()}
        assert met == {kind.__name__ for kind in KINDS}
        assert zoo.run.find_faults() != []


def test_forged_rows_finds_a_forged_record(index_db: str, tmp_path: Path) -> None:
    with open_zoo(index_db, tmp_path, accounts=8, seed=11) as zoo:
        assert zoo.forged_rows() == []
        with psycopg.connect(index_db) as conn:
            value = compress(cbor.encode({"text": f"a {FORGED} word"}))
            conn.execute(
                "INSERT INTO record (actor, collection, rkey, value)"
                " SELECT id, 1, 1, %s FROM actor ORDER BY id LIMIT 1",
                (value,),
            )
        assert len(zoo.forged_rows()) == 1


def test_hostile_tools_bomb_and_cut_places() -> None:
    assert len(bomb(10_000_000, -15)) < 20_000
    blocks = [bytes([n]) * 200 for n in range(5)]
    car = car_header(cid_for(blocks[0])) + b"".join(
        car_block(cid_for(block), block) for block in blocks
    )
    places = cut_places(car)
    assert len(places) == 6
    assert places[-1] == len(car)
