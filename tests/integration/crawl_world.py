"""A small network for the crawler: hosts in memory, a firehose, and the index."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from crawl_author import Author, account_frame
from crawl_fakes import FakeResolver, fake_clients
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from crawler.hosts.host_name import parse_host
from crawler.identities.network_clients import OpenClients
from crawler.live.firehose import Firehose
from crawler.settings import CrawlSettings
from crawler.tasks import CrawlTasks
from indexer.index_writer import IndexWriter
from network.server.listener import serving_in_thread
from network.streams.stream_events import StreamTimes
from network.streams.stream_server import StreamServer
from protocol.data.cid import cid_for, cid_to_text
from protocol.mst import build_root
from protocol.syntax.tid import tid_from_int
from storage.hosts import host_rows
from storage.postgres.pool import Conn, Pool, open_pool
from storage.records.interning import Interner
from storage.records.record_codec import decompress

QUICK = StreamTimes(first=0.05, longest=0.5)


class FakeHost:
    """A PDS in memory.

    `repo_errors` maps DIDs to errors of getRepo; `lenient` ignores future cursors.
    """

    def __init__(self) -> None:
        self.authors: dict[str, Author] = {}
        self.frames: list[tuple[int, bytes]] = []
        self.repo_errors: dict[str, str] = {}
        self.repo_bytes: dict[str, bytes] = {}
        self.statuses: dict[str, str] = {}
        self.repo_requests: list[str] = []
        self.before_repo: Callable[[str], None] = lambda did: None
        self.before_place: Callable[[], None] = lambda: None
        self.before_listed: Callable[[], None] = lambda: None
        self.url = ""
        self.lenient = False
        self.connected = 0
        """Open streams whose place in the events is fixed."""
        self.stream = StreamServer(self, poll=0.05)

    def app(self) -> Starlette:
        sync = "/xrpc/com.atproto.sync"
        return Starlette(
            routes=[
                Route("/xrpc/com.atproto.server.describeServer", self._describe_server),
                Route(f"{sync}.listRepos", self._list_repos),
                Route(f"{sync}.getRepo", self._get_repo),
                WebSocketRoute(f"{sync}.subscribeRepos", self._subscribe),
            ]
        )

    def send(self, frame: Callable[[int], bytes]) -> int:
        """Put a frame on the stream under the next sequence number."""
        seq = self.frames[-1][0] + 1 if self.frames else 1
        self.frames.append((seq, frame(seq)))
        self.stream.wake()
        return seq

    def tell(self, author: Author, active: bool, status: str | None = None) -> int:
        """Change the state of an account, and send the event."""
        if active:
            self.statuses.pop(author.did, None)
        else:
            self.statuses[author.did] = status or "inactive"
        return self.send(lambda seq: account_frame(author.did, seq, active, status))

    def post(self, author: Author, *ops: tuple[str, str, Any]) -> int:
        """Commit, and send the event."""
        author.write(ops)
        return self.send(author.frame)

    async def tail(self) -> int:
        await asyncio.to_thread(self.before_place)
        return self.frames[-1][0] if self.frames else 0

    async def oldest(self) -> int:
        return self.frames[0][0] if self.frames else 0

    async def events_after(self, seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        start = bisect_right(self.frames, seq, key=lambda event: event[0])
        return self.frames[start : start + limit]

    async def _subscribe(self, websocket: WebSocket) -> None:
        cursor = websocket.query_params.get("cursor")
        params = {} if cursor is None else {"cursor": int(cursor)}
        if self.lenient and params.get("cursor", 0) > await self.tail():
            params = {}
        # Other servers accept a connection before its place in the stream is fixed.
        await websocket.accept()
        placed = False

        async def note_place(*_: Any) -> None:
            nonlocal placed
            placed = True
            self.connected += 1

        websocket.accept = note_place  # type: ignore[method-assign]
        try:
            await self.stream(websocket, params)
        finally:
            self.connected -= placed

    async def _describe_server(self, _: Request) -> Response:
        return JSONResponse({"did": "did:web:pds", "availableUserDomains": []})

    async def _list_repos(self, _: Request) -> Response:
        answer = JSONResponse(
            {
                "repos": [
                    {
                        "did": author.did,
                        "head": cid_to_text(cid_for(author.commit)),
                        "rev": author.rev,
                        "active": author.did not in self.statuses,
                        "status": self.statuses.get(author.did),
                    }
                    for author in self.authors.values()
                    if author.rev is not None
                ]
            }
        )
        await asyncio.to_thread(self.before_listed)
        return answer

    async def _get_repo(self, request: Request) -> Response:
        did = request.query_params["did"]
        self.repo_requests.append(did)
        error = self.repo_errors.get(did)
        if error is not None:
            return JSONResponse({"error": error, "message": did}, status_code=400)
        author = self.authors.get(did)
        if author is None:
            return JSONResponse({"error": "RepoNotFound"}, status_code=400)
        body = self.repo_bytes.get(did) or author.repo()
        await asyncio.to_thread(self.before_repo, did)
        return Response(body, media_type="application/vnd.ipld.car")


class CrawlWorld:
    """Hosts, a directory, and a firehose that can be started and stopped."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.hosts: list[FakeHost] = []
        self.resolver = FakeResolver()
        self._stack = contextlib.ExitStack()
        self.pool: Pool = self._stack.enter_context(open_pool(url, max=16))
        names = self._stack.enter_context(open_pool(url, max=4))
        self.resolver.pool = names
        self.sink = IndexWriter(self.pool, Interner(names), lambda: None)
        self.open_clients: OpenClients = fake_clients(self.resolver)

    def close(self) -> None:
        self._stack.close()

    def settings(self, **changes: Any) -> CrawlSettings:
        quick = {
            "dev": True,
            "host_rescan": 0.05,
            "refresh_interval": 0.5,
            "listing_settle": 0.0,
            "batch_wait": 0.02,
            "flush_interval": 0.1,
            "backfill_idle": 0.05,
        }
        return CrawlSettings(**(quick | changes))

    def add_host(
        self,
        *,
        source: str = host_rows.SOURCE_CONFIGURED,
        relay: bool = False,
        known: bool = True,
    ) -> FakeHost:
        host = FakeHost()
        self.hosts.append(host)
        url = self._stack.enter_context(serving_in_thread(host.app()))
        address = parse_host(url, dev=True)
        host.url = url
        if known:
            with self.pool.connection() as conn:
                host_rows.put_host(
                    conn, address.name, address.url, source=source, relay=relay
                )
        return host

    def add_author(self, number: int, host: FakeHost, curve: str = "k256") -> Author:
        author = Author(number, curve)
        host.authors[author.did] = author
        self.resolver.put(author.did, host.url, author.did_key)
        return author

    def tasks(self, **changes: Any) -> CrawlTasks:
        return CrawlTasks(
            self.settings(**changes), self.pool, self.sink, self.open_clients
        )

    @contextlib.contextmanager
    def crawling(self, **changes: Any) -> Iterator[Firehose]:
        """Run a firehose in a thread of its own while the block runs."""
        tasks = self.tasks(**changes)
        firehose = Firehose(
            self.settings(**changes),
            self.url,
            self.pool,
            self.sink,
            self.open_clients,
            list_due=tasks.list_repos,
            times=QUICK,
        )
        loops: list[asyncio.AbstractEventLoop] = []
        stop = asyncio.Event()
        failures: list[BaseException] = []

        async def run() -> None:
            loops.append(asyncio.get_running_loop())
            await firehose.run(stop)

        def in_thread() -> None:
            try:
                asyncio.run(run())
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=in_thread)
        thread.start()
        try:
            yield firehose
        finally:
            if loops:
                with contextlib.suppress(RuntimeError):
                    loops[0].call_soon_threadsafe(stop.set)
            thread.join(30)
            assert not thread.is_alive()
            # The hosts notice closed connections a moment later.
            end = time.monotonic() + 2.0
            while any(h.connected for h in self.hosts) and time.monotonic() < end:
                time.sleep(0.01)
        if failures:
            raise failures[0]

    def query(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        with self.pool.connection() as conn:
            return conn.execute(sql, params).fetchall()  # type: ignore[arg-type]

    def execute(self, sql: str, *params: Any) -> None:
        with self.pool.connection() as conn:
            conn.execute(sql, params)  # type: ignore[arg-type]

    def heads(self) -> dict[str, tuple[str, bytes | None]]:
        """Return DID -> (state, root) of every repo."""
        rows = self.query(
            "SELECT did, state, data FROM repo JOIN actor ON actor.id = repo.actor"
        )
        return {did: (state, data) for did, state, data in rows}

    def follows(self, *authors: Author) -> bool:
        """Return True if the index stands where these authors stand."""
        heads = self.heads()
        return all(
            heads.get(author.did) == ("synchronized", author.data) for author in authors
        )

    def drops(self) -> dict[str, int]:
        return dict(
            self.query("SELECT reason, sum(n)::int FROM drop_count GROUP BY reason")
        )


def refused(world: CrawlWorld) -> int:
    """Count the dropped frames of untrusted hosts that do not hold the account."""
    [(count,)] = world.query(
        "SELECT coalesce(sum(n), 0)::int FROM drop_count JOIN host ON id = host"
        " WHERE source = 'request_crawl'"
        " AND reason IN ('wrong_host', 'unknown_account', 'host_budget')"
    )
    return int(count)


def wait_until(
    check: Callable[[], Any],
    seconds: float = 20.0,
    what: str | Callable[[], str] = "it did not happen in time",
) -> None:
    """Poll until `check` is true; fail after `seconds` with `what`."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, what if isinstance(what, str) else what()
        time.sleep(0.02)


def wait_for_stream(*streamed: FakeHost, seconds: float = 20.0) -> None:
    """Wait until these hosts send all further events to the crawler."""
    for host in streamed:
        wait_until(
            lambda host=host: host.connected,  # type: ignore[misc]
            seconds,
            f"a stream from {host.url}",
        )


def rebuild_root(conn: Conn, did: str) -> bytes:
    """Return the root of a repo, from its rows alone and by no code of the indexer."""
    items = [
        (f"{nsid}/{text or tid_from_int(number)}".encode(), cid_for(decompress(value)))
        for nsid, number, text, value in conn.execute(
            """
            SELECT nsid, record.rkey, rkey.text, value FROM record
            JOIN actor ON actor.id = record.actor
            JOIN collection ON collection.id = record.collection
            LEFT JOIN rkey ON rkey.id = record.rkey
            WHERE did = %s
            """,
            (did,),
        )
    ]
    items += conn.execute(
        "SELECT path, cid FROM dropped_record JOIN actor ON actor.id = actor"
        " WHERE did = %s",
        (did,),
    ).fetchall()
    return build_root(sorted(items))
