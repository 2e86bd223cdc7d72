"""One run: a simulated network, an index, a crawler process and a publisher.

At the end the oracle returns what is wrong.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from crawler_process import CrawlerProcess
from notice_reader import find_notice_faults, serving
from oracle import Expected, Oracle, expected_accounts
from simulated_accounts import DEACTIVATED, Sent
from simulated_network import SimulatedNetwork

from crawler.scope.admission import IDENTITY_JOB
from indexer.index_writer import IndexWriter
from storage import jobs
from storage.hosts import host_rows
from storage.postgres.pool import open_pool
from storage.postgres.transaction import retry_conflicts
from storage.records.interning import Interner
from storage.repos import repo_rows
from storage.repos.identities import save_document

_LEAD = 100
_MOST_FRAMES = 100_000
# The slowest shard of each host counts.
_PROGRESS = """
    SELECT sum(seq)::int FROM (
        SELECT min(seq) AS seq FROM host_cursor GROUP BY host
    ) AS cursor
"""
_UNFINISHED = """
    SELECT did, upstream_status, repo.state, rev, upstream_rev, repo.tries,
        'due in ' || date_trunc('second', repo.next_try - now()),
        'leased for ' || date_trunc('second', lease_until - now()), repo.error,
        url, host.state, host.error
    FROM repo JOIN actor ON actor.id = actor LEFT JOIN host ON host.id = repo.host
    WHERE repo.state <> 'synchronized' ORDER BY host.id LIMIT 100
"""
_HOSTS = """
    SELECT url, state, mode, accounts,
        (SELECT min(seq) FROM host_cursor c WHERE c.host = host.id),
        'next try in ' || date_trunc('second', next_try - now()), error,
        (SELECT string_agg(reason || ' ' || n, ', ') FROM drop_count d
            WHERE d.host = host.id)
    FROM host ORDER BY id LIMIT 100
"""
_JOBS = """
    SELECT kind, key, tries, 'due in ' || date_trunc('second', not_before - now()),
        'leased for ' || date_trunc('second', lease_until - now()), error
    FROM job ORDER BY kind, key LIMIT 100
"""


class Lags:
    """Time of each frame from its host to the rows of the index."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._waiting: dict[int, list[tuple[int, float]]] = {}
        self._lock = threading.Lock()

    def sent(self, host: int, seq: int) -> None:
        with self._lock:
            self._waiting.setdefault(host, []).append((seq, time.monotonic()))

    def applied(self, cursors: dict[int, int]) -> None:
        now = time.monotonic()
        with self._lock:
            for host, cursor in cursors.items():
                waiting = self._waiting.get(host, [])
                while waiting and waiting[0][0] <= cursor:
                    self.seconds.append(now - waiting.pop(0)[1])

    @property
    def still_waiting(self) -> int:
        with self._lock:
            return sum(map(len, self._waiting.values()))

    def percentile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Simulation:
    """A network, the URL of an empty index, and a crawler; `close` at the end.

    Without `healing` all accounts are known and hosts refuse listings and repos, so
    that a lost frame stays lost.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        network: SimulatedNetwork,
        *,
        healing: bool = True,
        search: bool = False,
        handles: bool = False,
        **world: Any,
    ) -> None:
        self.url = url
        self.network = network
        self.lags = Lags()
        self.others: list[Expected] = []
        self.hurry = threading.Event()
        self._enough = threading.Event()
        self.memory_mib: list[float] = []
        self._healing = healing
        self._search = search
        self._handles = handles
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self.rows = network.register(url)
        if not healing:
            self._admit_all()
        self.crawler = CrawlerProcess(
            url,
            {
                "plc": network.directory.url,
                "names": network.names,
                "list": healing,
                "drain": search,
                "report": str(folder / "report.json"),
            }
            | world,
            folder,
        )

    def close(self) -> None:
        self._enough.set()
        self.hurry.set()
        self._ended.set()
        for thread in self._threads:
            thread.join(30)
        self.crawler.close()

    def _admit_all(self) -> None:
        """Insert all accounts and hold fetches back for a day.

        A claimed repo whose fetch fails would leave its commits waiting.
        """
        population = self.network.population
        self.network.faults.refused = 1.0
        with psycopg.connect(self.url) as conn:
            for name, row in self.rows.items():
                dids = [member.did for member in population.members_of(name)]
                repo_rows.add_repos(conn, row, dids)
                for did in dids:
                    document = self.network.directory.find(did)
                    save_document(conn, did, document, None, time.time())
                host_rows.hold_back(conn, row, 86_400.0)

    # time

    def publish(
        self, frames: Iterable[Sent], *, lead: int = _LEAD, rate: float = 0.0
    ) -> threading.Thread:
        """Send frames in a thread, `rate` a second or at most `lead` ahead.

        The lead leaves work to do at every kill.
        """

        def work() -> None:
            begun, applied = time.monotonic(), 0
            for number, sent in enumerate(frames):
                if rate:
                    time.sleep(max(0.0, begun + number / rate - time.monotonic()))
                elif lead:
                    while number - applied > lead and not self.hurry.is_set():
                        time.sleep(0.02)
                        applied = max(applied, self.progress())
                self.lags.sent(self.rows[sent.host], sent.seq)
                self.network.take(sent)

        return self._spawn(work)

    def begin_days(self) -> None:
        """Create all accounts, then write until `end_days`."""
        population = self.network.population

        def days() -> Iterator[Sent]:
            yield from population.begin()
            live = population.live(_MOST_FRAMES)
            # Every event that is made must be sent.
            while not self._enough.is_set():
                yield next(live)

        self._days = self.publish(days())

    def end_days(self) -> None:
        """Stop writing; AssertionError if all was written before."""
        assert self._days.is_alive(), "all was written before the end"
        self._enough.set()
        self.hurry.set()
        self._days.join()

    def watch(self) -> None:
        """Measure lag and memory while the run lasts."""

        def work() -> None:
            with psycopg.connect(self.url, autocommit=True) as conn:
                while not self._ended.wait(0.05):
                    rows = conn.execute(
                        "SELECT host, min(seq) FROM host_cursor GROUP BY host"
                    )
                    self.lags.applied(dict(rows.fetchall()))
                    self.memory_mib.append(self.crawler.memory_mib)

        self._spawn(work)

    def _spawn(self, work: Any) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                self._failures.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    @retry_conflicts
    def end_leases(self) -> None:
        """End all leases, as if their time were over.

        Transactions of the dead worker may still be running.
        """
        with psycopg.connect(self.url) as conn:
            conn.execute("DELETE FROM lease")
            conn.execute("UPDATE repo SET lease_until = NULL")
            conn.execute("UPDATE job SET lease_until = NULL")

    # how far it is

    def progress(self) -> int:
        """Return the frames applied so far, by the cursors; -1 without a database."""
        with contextlib.suppress(psycopg.OperationalError):
            with psycopg.connect(self.url) as conn:
                row = conn.execute(_PROGRESS).fetchone()
            return 0 if row is None else row[0] or 0
        return -1

    def wait_for_progress(self, since: int, seconds: float) -> None:
        """Wait until something is applied after `since`, for at most `seconds`."""
        end = time.monotonic() + seconds
        while self.progress() <= since and time.monotonic() < end:
            time.sleep(0.02)

    def oracle(self) -> Oracle:
        population, urls = self.network.population, self.network.urls
        accounts = expected_accounts(population, urls, handles=self._handles)
        cursors = {
            host.url: host.frames[-1][0]
            for host in self.network.hosts.values()
            if host.frames
        }
        return Oracle(accounts + self.others, cursors, self._search)

    def find_faults(self) -> list[str]:
        if self._failures:
            raise self._failures[0]
        try:
            with psycopg.connect(self.url) as conn:
                return self.oracle().find_faults(conn)
        except psycopg.OperationalError as error:
            return [f"no database: {error}"]

    def find_notice_faults(self) -> list[str]:
        """Compare the notifications of all accounts with the records, once."""
        with serving(self.url, self.url) as provider:
            return find_notice_faults(provider, self.oracle().accounts)

    def wait_for_repos(self, count: int, *, seconds: float = 60.0) -> None:
        """Wait until so many repos are in the index."""
        end = time.monotonic() + seconds
        with psycopg.connect(self.url, autocommit=True) as conn:
            while conn.execute("SELECT count(*) FROM repo").fetchone() != (count,):
                assert time.monotonic() < end, self.describe()
                time.sleep(0.1)

    def describe(self) -> str:
        """Return the unfinished repos, the jobs and the hosts, for error messages."""
        with psycopg.connect(self.url) as conn:
            rows = conn.execute(_UNFINISHED).fetchall()
            rows += conn.execute(_JOBS).fetchall()
            rows += conn.execute(_HOSTS).fetchall()
        return "\n".join(" | ".join(map(str, row)) for row in rows)

    def bring_back(self) -> None:
        """Reactivate all accounts, so that every repo can be compared."""
        population = self.network.population
        while any(life.status == DEACTIVATED for life in population.lives.values()):
            for sent in population.do("come back"):
                self.network.take(sent)

    def settle(self, seconds: float) -> list[str]:
        """Wait until nothing is wrong; return the faults left after `seconds`."""
        if self._healing:
            with psycopg.connect(self.url) as conn:
                for row in self.rows.values():
                    host_rows.request_listing(conn, row)
                # A handle change whose frame was lost is seen by the next refresh.
                dids = conn.execute("SELECT did FROM repo JOIN actor ON actor = id")
                jobs.put_jobs(conn, IDENTITY_JOB, [did for (did,) in dids])
        end = time.monotonic() + seconds
        while (faults := self.find_faults()) and time.monotonic() < end:
            self._purge()
            if not self._healing and self._stands():
                # All is read, and nothing will be repaired.
                time.sleep(1.0)
                return self.find_faults()
            time.sleep(0.3)
        return faults

    def settle_unhealed(self, seconds: float) -> list[str]:
        """Settle and stop; lost frames and requested repos are faults too."""
        faults = self.settle(seconds)
        self.stop()
        if asked := self.network.faults.seen.get("refused"):
            faults.append(f"{asked} times a repo was asked for")
        lost = {why: n for why, n in self.drops().items() if why != "stale_rev"}
        if lost:
            faults.append(f"dropped {lost}")
        return [*faults, self.describe()] if faults else []

    def _purge(self) -> None:
        """Purge deleted accounts, as the scheduled task does."""
        with (
            contextlib.suppress(psycopg.OperationalError),
            open_pool(self.url, max=1) as pool,
            open_pool(self.url, max=1) as names,
        ):
            IndexWriter(pool, Interner(names), lambda: None).purge_deleted(20)

    def _stands(self) -> bool:
        return not any(
            "cursor" in fault or "no database" in fault for fault in self.find_faults()
        )

    def drops(self, host: int | None = None) -> dict[str, int]:
        with psycopg.connect(self.url) as conn:
            return dict(
                conn.execute(
                    "SELECT reason, sum(n)::int FROM drop_count"
                    " WHERE host = %s OR %s::int IS NULL GROUP BY reason",
                    (host, host),
                ).fetchall()
            )

    def stop(self) -> None:
        """Stop the crawler with SIGTERM."""
        self.crawler.kill(signal.SIGTERM)


def kill_backends(url: str, draw: random.Random, most: int = 1) -> int:
    """Kill backends of other connections, so that the server restarts."""
    try:
        with psycopg.connect(url, autocommit=True) as conn:
            pids = [
                row[0]
                for row in conn.execute(
                    "SELECT pid FROM pg_stat_activity WHERE datname ="
                    " current_database() AND pid <> pg_backend_pid()"
                )
            ]
    except psycopg.OperationalError:
        return 0
    killed = 0
    for pid in draw.sample(pids, min(most, len(pids))):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed
