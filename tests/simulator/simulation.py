"""One run: a simulated network, an index, a crawler in a process of its own, and a
publisher that lets time pass. At the end the oracle says what is wrong."""

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
from oracle import Expected, Oracle, society_accounts
from simulated_network import SimulatedNetwork
from simulated_society import DEACTIVATED, Sent

from crawler.scope.admission import IDENTITY_JOB
from indexer.index_writer import IndexWriter
from indexer.transaction import retry_conflicts
from storage import jobs
from storage.hosts import host_rows
from storage.postgres.pool import open_pool
from storage.records.interning import Interner
from storage.repos import repo_rows
from storage.repos.identities import save_document

_LEAD = 100
_MOST_FRAMES = 100_000
# Of a host's shards the one that is farthest behind counts.
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
    """How long each frame took from its host to the rows of the index."""

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
    """Open with a network and the URL of an empty index; `close` at the end.

    Without `healing` everybody is known, and no host lists repos or may be asked for
    any: what is lost stays lost and is seen.
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
            self._let_everybody_in()
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

    def _let_everybody_in(self) -> None:
        """Everybody is known, and all hosts ask for patience with fetches for a day.

        To refuse them would not do alone: while a repo is claimed its commits wait for
        the fetch, and one that fails for good leaves them waiting.
        """
        society = self.network.society
        self.network.faults.refused = 1.0
        with psycopg.connect(self.url) as conn:
            for name, row in self.rows.items():
                dids = [member.did for member in society.members_of(name)]
                repo_rows.add_repos(conn, row, dids)
                for did in dids:
                    document = self.network.directory.find(did)
                    save_document(conn, did, document, None, time.time())
                host_rows.hold_back(conn, row, 86_400.0)

    # time

    def publish(
        self, frames: Iterable[Sent], *, lead: int = _LEAD, rate: float = 0.0
    ) -> threading.Thread:
        """Put frames on the streams, in a thread; never `lead` ahead of what is
        applied, so that there is work left at every kill, or `rate` a second."""

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
        """Everybody is born, and then writes until `end_days`."""
        society = self.network.society

        def days() -> Iterator[Sent]:
            yield from society.begin()
            live = society.live(_MOST_FRAMES)
            # None may be made and then not sent.
            while not self._enough.is_set():
                yield next(live)

        self._days = self.publish(days())

    def end_days(self) -> None:
        """Raise AssertionError if they had ended already."""
        assert self._days.is_alive(), "all was written before the end"
        self._enough.set()
        self.hurry.set()
        self._days.join()

    def watch(self) -> None:
        """Measure lag and memory while the run lasts, and judge what comes late."""

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
        """As if the minutes were over for which a dead worker still held its work.

        What the dead one was doing may not have ended in the database yet.
        """
        with psycopg.connect(self.url) as conn:
            conn.execute("DELETE FROM lease")
            conn.execute("UPDATE repo SET lease_until = NULL")
            conn.execute("UPDATE job SET lease_until = NULL")

    # how far it is

    def progress(self) -> int:
        """Frames applied so far, as the cursors tell; -1 without a database."""
        with contextlib.suppress(psycopg.OperationalError):
            with psycopg.connect(self.url) as conn:
                row = conn.execute(_PROGRESS).fetchone()
            return 0 if row is None else row[0] or 0
        return -1

    def wait_for_progress(self, since: int, seconds: float) -> None:
        """Until something was applied after `since`, or for `seconds`."""
        end = time.monotonic() + seconds
        while self.progress() <= since and time.monotonic() < end:
            time.sleep(0.02)

    def oracle(self) -> Oracle:
        society, urls = self.network.society, self.network.urls
        accounts = society_accounts(society, urls, handles=self._handles)
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

    def describe(self) -> str:
        """Every repo that is not synchronized, every job and every host, for whoever
        must find out why a run did not end right."""
        with psycopg.connect(self.url) as conn:
            rows = conn.execute(_UNFINISHED).fetchall()
            rows += conn.execute(_JOBS).fetchall()
            rows += conn.execute(_HOSTS).fetchall()
        return "\n".join(" | ".join(map(str, row)) for row in rows)

    def bring_back(self) -> None:
        """Whoever rests comes back, so that everybody's repo can be compared."""
        society = self.network.society
        while any(life.status == DEACTIVATED for life in society.lives.values()):
            for sent in society.do("come back"):
                self.network.take(sent)

    def settle(self, seconds: float) -> list[str]:
        """Wait until nothing is wrong any more; what is wrong in the end."""
        if self._healing:
            with psycopg.connect(self.url) as conn:
                for row in self.rows.values():
                    host_rows.request_listing(conn, row)
                # As if a day had passed: a new handle of which the frame got lost is
                # seen when the document is due for a look, and not before.
                dids = conn.execute("SELECT did FROM repo JOIN actor ON actor = id")
                jobs.put_jobs(conn, IDENTITY_JOB, [did for (did,) in dids])
        end = time.monotonic() + seconds
        while (faults := self.find_faults()) and time.monotonic() < end:
            self._purge()
            if not self._healing and self._stands():
                # Nothing moves any more, and nothing will be repaired.
                time.sleep(1.0)
                return self.find_faults()
            time.sleep(0.3)
        return faults

    def settle_unhealed(self, seconds: float) -> list[str]:
        """`settle` and stop: nothing is lost or dropped but what came twice, and no
        repo was asked for."""
        faults = self.settle(seconds)
        self.stop()
        if asked := self.network.faults.seen.get("refused"):
            faults.append(f"{asked} times a repo was asked for")
        lost = {why: n for why, n in self.drops().items() if why != "stale_rev"}
        if lost:
            faults.append(f"dropped {lost}")
        return [*faults, self.describe()] if faults else []

    def _purge(self) -> None:
        """What the scheduled work does with accounts that were deleted."""
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
        """End the crawler as an operator would."""
        self.crawler.kill(signal.SIGTERM)


def kill_backends(url: str, draw: random.Random, most: int = 1) -> int:
    """SIGKILL processes of a database but our own; the server starts anew then."""

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
