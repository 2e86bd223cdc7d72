"""One account and the path of its frames to rows: gate, lookups, index writer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from crawl_author import Author, post
from crawl_fakes import FakeResolver

from crawler.database import Database
from crawler.hosts.host_name import HostName
from crawler.identities.account_lookups import AccountLookups
from crawler.identities.network_clients import NetworkClients
from crawler.live.followups import queue_followups
from crawler.live.gate import Gate
from crawler.live.stream_state import Arrival, StreamState
from crawler.settings import CrawlSettings
from indexer.index_writer import IndexWriter
from network.errors import DidTombstonedError
from protocol.data import cbor
from protocol.data.cid import Cid, cid_for
from protocol.events.frames import decode_frame
from protocol.identity.did_document import DidDocument
from protocol.repo.car import car_block, car_header, read_car
from protocol.syntax.did import Did
from storage.hosts import host_rows
from storage.postgres.pool import Pool
from storage.records.interning import Interner

HOST = "host.example.com"
OTHER = "other.example.com"
RELAY = "relay.example.com"
NOW_US = 1_800_000_000_000_000


class TombstoneResolver(FakeResolver):
    """A directory in which the DIDs without a document are tombstoned."""

    async def resolve_did(self, did: str, **how: Any) -> DidDocument:
        if did not in self.documents:
            raise DidTombstonedError(did)
        return await super().resolve_did(did, **how)


class SyncLine:
    """An account with one synchronized record; `send` passes frames through to rows."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.resolver = TombstoneResolver(pool=pool)
        self.time = 1_000.0
        self.refreshes = 0
        self.to_resync: set[Did] = set()
        self.identities_to_refresh: set[Did] = set()
        self.gate_drops: Counter[str] = Counter()
        self._database = database = Database(pool)
        self._sink = IndexWriter(pool, Interner(pool), lambda: None)
        self._gate = Gate(
            CrawlSettings(),
            run=database.run,
            clock=lambda: self.time,
            now_us=lambda: NOW_US,
        )
        self.host = self._stream(HOST)
        self.other = self._stream(OTHER)
        self.relay = self._stream(RELAY, relay=True)
        self.author = Author(1)
        self.seq = 0
        self.settle_at(HOST)
        self.resolver.cache(self.author.did)
        self.write("first")
        assert self.state() == "synchronized"
        self.forget_counts()

    def settle_at(self, host: str | None, key: str | None = None) -> None:
        """Change the DID document of the account."""
        url = None if host is None else f"https://{host}"
        self.resolver.put(self.author.did, url, key or self.author.did_key)

    def wait(self, seconds: float = 61.0) -> None:
        """Let time pass, so that an identity may be refreshed again."""
        self.time += seconds

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def write(self, rkey: str, **changes: Any) -> None:
        """Return a commit that creates one post, sent by its host."""
        self.author.write([("create", path(rkey), post(rkey))])
        self.send(self.author.frame(self.next_seq(), **changes))

    def send(self, *frames: bytes, by: StreamState | None = None) -> None:
        """Frames, the lookups that they cause, rows and cursor."""
        stream = by or self.host
        result = self._gate.take([Arrival(stream, raw) for raw in frames])
        self.gate_drops.update(
            {reason.value: n for (reason, _), n in result.drops.items()}
        )
        self.to_resync |= result.to_resync
        self.refreshes += sum(lookup.refresh for lookup in result.lookups.values())
        self._database.run(lambda conn: queue_followups(conn, result, cooldown=60.0))
        self._sink.apply(result.events, result.marks)
        self.identities_to_refresh = set(result.identities_to_refresh)
        for did in self.identities_to_refresh:
            self.resolver.cache(did)
        asyncio.run(self._lookups().run_once(seconds=30))
        self.time += 1.0

    def _lookups(self) -> AccountLookups:
        clients = NetworkClients(None, self.resolver)  # type: ignore[arg-type]
        return AccountLookups(CrawlSettings(), self._database, self._sink, clients)

    def send_again(self, *frames: bytes) -> None:
        """Send earlier frames under the next numbers."""
        self.seq += len(frames)
        self.send(*frames)

    def forget_counts(self) -> None:
        """Start counting again."""
        self.gate_drops.clear()
        self.to_resync.clear()
        self.refreshes = 0
        self._execute("TRUNCATE drop_count")

    def drops(self) -> Counter[str]:
        """Return reason -> count, of the gate and of the index."""
        counted = self.query("SELECT reason, sum(n)::int FROM drop_count GROUP BY 1")
        return self.gate_drops + Counter(dict(counted))

    def state(self) -> str:
        return str(self._repo()[0])

    def stored(self) -> tuple[str, bytes]:
        """Return the stored revision and root."""
        _, rev, data = self._repo()
        return rev, data

    def status(self) -> str:
        [(status,)] = self.query(
            "SELECT upstream_status FROM actor WHERE did = %s", self.author.did
        )
        return str(status)

    def rkeys(self) -> list[str]:
        """Return the names of the account's records."""
        found = self.query(
            "SELECT text FROM record JOIN rkey ON rkey.id = rkey"
            " JOIN actor ON actor.id = actor WHERE did = %s ORDER BY 1",
            self.author.did,
        )
        return [text for (text,) in found]

    def cursor(self) -> int:
        found = self.query(
            "SELECT seq FROM host_cursor WHERE host = %s", self.host.host
        )
        return found[0][0] if found else 0

    def resyncing(self) -> None:
        """Claim the repo, as a fetch would."""
        self._execute("UPDATE repo SET state = 'resyncing'")

    def take_down(self) -> None:
        """Take the account down locally."""
        self._execute("UPDATE actor SET takedown = 'spam'")

    def query(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        with self.pool.connection() as conn:
            return conn.execute(sql, params).fetchall()  # type: ignore[arg-type]

    def _execute(self, sql: str) -> None:
        with self.pool.connection() as conn:
            conn.execute(sql)  # type: ignore[arg-type]

    def _repo(self) -> tuple[Any, ...]:
        [row] = self.query(
            "SELECT state, rev, data FROM repo JOIN actor ON actor.id = actor"
            " WHERE did = %s",
            self.author.did,
        )
        return row

    def _stream(self, name: str, *, relay: bool = False) -> StreamState:
        with self.pool.connection() as conn:
            host, _ = host_rows.put_host(
                conn,
                name,
                f"https://{name}",
                source=host_rows.SOURCE_CONFIGURED,
                relay=relay,
            )
        return StreamState(host, HostName(name), relay=relay, trusted=True)


def path(rkey: str) -> str:
    return f"app.bsky.feed.post/{rkey}"


def body_of(author: Author) -> dict[str, Any]:
    """Return the fields of the author's last commit, as a reader gets them."""
    body: dict[str, Any] = decode_frame(author.frame(1)).body
    return body


def car_of(root: bytes, blocks: dict[bytes, bytes]) -> bytes:
    return car_header(root) + b"".join(car_block(c, raw) for c, raw in blocks.items())


def with_commit(author: Author, change: Callable[[dict[str, Any]], None]) -> Any:
    """Return changes for `Author.frame`: its commit block altered and signed again."""
    car = read_car(body_of(author)["blocks"])
    fields: Any = cbor.decode(car.blocks[car.root])
    del fields["sig"]
    change(fields)
    fields.setdefault("sig", author.key.sign(cbor.encode(fields)))
    signed = cbor.encode(fields)
    rest = {cid: raw for cid, raw in car.blocks.items() if cid != car.root}
    root = cid_for(signed)
    return {"commit": Cid(root), "blocks": car_of(root, {root: signed} | rest)}


def without_block(author: Author, gone: Callable[[bytes, bytes], bool]) -> Any:
    """Return changes for `Author.frame`: blocks without those that `gone` selects."""
    car = read_car(body_of(author)["blocks"])
    kept = {
        cid: raw
        for cid, raw in car.blocks.items()
        if cid == car.root or not gone(cid, raw)
    }
    return {"blocks": car_of(car.root, kept)}
