"""A gate with its hosts, its directory and a clock that the test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from crawl_author import Author
from crawl_fakes import FakeResolver, FakeSink

from crawler.database import Database
from crawler.hosts.host_name import HostName
from crawler.identities.account_lookups import AccountLookups
from crawler.identities.network_clients import NetworkClients
from crawler.live.followups import queue_followups
from crawler.live.gate import Gate
from crawler.live.gate_result import GateResult
from crawler.live.stream_state import Arrival, StreamState
from crawler.settings import CrawlSettings
from protocol.events.drops import DropReason
from storage import jobs
from storage.hosts import host_rows
from storage.postgres.pool import Conn, Pool

HONEST = "honest.example.com"
OTHER = "other.example.com"
NOW_US = 1_800_000_000_000_000


@dataclass
class Bench:
    """A gate with its hosts, its directory, and a clock that the test turns."""

    pool: Pool
    settings: CrawlSettings = field(default_factory=CrawlSettings)
    resolver: FakeResolver = field(default_factory=FakeResolver)
    time: float = 1_000.0
    runs: int = 0
    streams: dict[str, StreamState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.resolver.pool = self.pool
        self.database = Database(self.pool)
        self.gate = self.make_gate()

    def make_gate(self) -> Gate:
        return Gate(
            self.settings, run=self._run, clock=lambda: self.time, now_us=lambda: NOW_US
        )

    def _run(self, work: Callable[[Conn], Any]) -> Any:
        self.runs += 1
        return self.database.run(work)

    @property
    def lookups(self) -> int:
        """Return how often the directory was asked."""
        return len(self.resolver.asked)

    def stream(self, name: str = HONEST, **more: Any) -> StreamState:
        if name not in self.streams:
            source = more.pop("source", host_rows.SOURCE_CONFIGURED)
            with self.pool.connection() as conn:
                host, _ = host_rows.put_host(
                    conn,
                    name,
                    f"https://{name}",
                    source=source,
                    relay=more.get("relay", False),
                )
            trusted = source == host_rows.SOURCE_CONFIGURED
            more.setdefault("trusted", trusted)
            self.streams[name] = StreamState(host, HostName(name), **more)
        return self.streams[name]

    def author(
        self,
        number: int,
        host: str = HONEST,
        curve: str = "k256",
        *,
        known: bool = True,
    ) -> Author:
        """Return an account; one that is `known` was resolved before."""
        author = Author(number, curve)
        self.resolver.put(author.did, f"https://{host}", author.did_key)
        if known:
            self.resolver.cache(author.did)
        return author

    def take(self, stream: StreamState, *frames: bytes) -> GateResult:
        """Return the result of frames, whose follow-ups are queued."""
        result = self.gate.take([Arrival(stream, raw) for raw in frames])
        self.database.run(lambda conn: queue_followups(conn, result, cooldown=60.0))
        return result

    def settle(self) -> FakeSink:
        """Do the lookups that are due; return where they wrote."""
        sink = FakeSink()
        clients = NetworkClients(None, self.resolver)  # type: ignore[arg-type]
        lookups = AccountLookups(self.settings, self.database, sink, clients)
        asyncio.run(lookups.run_once(seconds=30))
        # Newly fetched documents are seen a second later.
        self.time += 1.0
        return sink

    def repo(self, author: Author) -> tuple[str, str]:
        """Host and state of an account's repo; empty texts where there is none."""
        with self.pool.connection() as conn:
            row = conn.execute(
                "SELECT hostname, repo.state FROM actor JOIN repo ON actor = actor.id"
                " JOIN host ON host.id = host WHERE did = %s",
                (author.did,),
            ).fetchone()
        return ("", "") if row is None else row

    def jobs(self) -> dict[str, int]:
        with self.pool.connection() as conn:
            return jobs.count_jobs(conn)


def reasons(passed: GateResult) -> dict[DropReason, int]:
    return {reason: count for (reason, _), count in passed.drops.items()}


def synchronize(bench: Bench, *authors: Author) -> None:
    """As if what these authors wrote had been indexed."""
    with bench.pool.connection() as conn:
        conn.execute("UPDATE repo SET state = 'synchronized'")
