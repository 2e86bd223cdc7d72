"""A small world in a real index, served over HTTP.

The server checks every answer against its lexicon: a mismatch is a 500.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from small_world import FOREIGN_SERVICE, SERVICE, START, World, did
from small_world import fill as fill_small
from starlette.requests import Request

from appview import server as appview
from appview.app import AppView, ForeignItem, ForeignSkeleton
from indexer.apply import apply_batch
from indexer.collections.texts import TEXTS
from indexer.identity import save_handles
from indexer.repos.export import open_export
from mirror import mirror_methods as mirror
from mirror.stream_routes import stream_routes
from network.errors import (
    DidNotFoundError,
    HandleNotFoundError,
    LexiconNotFoundError,
)
from network.server.listener import serving_in_thread
from network.xrpc.server import Auth, XrpcError, XrpcServer
from protocol.events.event import AccountEvent
from protocol.lexicon import Catalog
from protocol.syntax import TidClock
from search.drain import drain_outbox
from search.engines.postgres import PostgresEngine
from storage.postgres.pool import Pool, open_pool
from storage.private.private_store import PrivateStore
from storage.private.sealing import Vault
from storage.records.interning import Interner


@dataclass
class Provider:
    """The served world, and its client."""

    url: str
    world: World
    uris: dict[str, str]
    database: str
    app: AppView
    generator: Generator

    def get(self, nsid: str, /, **asked: Any) -> Any:
        """Return the JSON answer of a query. Raises `RefusedError`."""
        return json.loads(self.ask(nsid, **asked)[0])

    def ask(
        self,
        nsid: str,
        /,
        *,
        viewer: str | None = None,
        headers: Mapping[str, str] = {},
        **params: Any,
    ) -> tuple[bytes, Mapping[str, str]]:
        url = f"{self.url}/xrpc/{nsid}?{urllib.parse.urlencode(params, doseq=True)}"
        return self._send(urllib.request.Request(url, headers=dict(headers)), viewer)

    def skeleton(self, nsid: str, *, of: str | None = None, **params: Any) -> Any:
        """Return the JSON of a skeleton; `of` is the viewer that is named, unproven."""
        if of is not None:
            params["viewer"] = did(of)
        url = f"{self.url}/xrpc/{nsid}?{urllib.parse.urlencode(params, doseq=True)}"
        return json.loads(self._send(urllib.request.Request(url), None)[0])

    def post(self, nsid: str, body: Any, *, viewer: str | None = None) -> bytes:
        """Return the answer of a procedure; `body` None: it takes none."""
        headers = {"content-type": "application/json"} if body is not None else {}
        data = b"" if body is None else json.dumps(body).encode()
        url = f"{self.url}/xrpc/{nsid}"
        return self._send(urllib.request.Request(url, data, headers), viewer)[0]

    def _send(
        self, request: urllib.request.Request, viewer: str | None
    ) -> tuple[bytes, Mapping[str, str]]:
        if viewer is not None:
            name, hash_sign, fragment = viewer.partition("#")
            request.add_header("x-viewer", did(name) + hash_sign + fragment)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                body = json.loads(error.read())
                raise RefusedError(error.code, body, error.headers) from None

    def pages(
        self, nsid: str, name: str, *, most: int = 40, **params: Any
    ) -> list[Any]:
        """Return all items of a paged query; fail if it does not end."""
        items: list[Any] = []
        cursor: dict[str, str] = {}
        for _ in range(most):
            answer = self.get(nsid, **params, **cursor)
            items += answer[name]
            if "cursor" not in answer:
                return items
            cursor = {"cursor": answer["cursor"]}
        raise AssertionError(f"{nsid} does not end")


@dataclass
class Generator:
    """A feed service that answers with its pages in turn, the last one again and
    again."""

    pages: list[ForeignSkeleton | XrpcError]
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, service_did: str, **asked: Any) -> ForeignSkeleton:
        assert service_did == FOREIGN_SERVICE
        self.asked.append(asked)
        page = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        if isinstance(page, XrpcError):
            raise page
        return page


class EmptyNetwork:
    """A network without accounts, lexicons and blobs."""

    async def find_document(self, did: str) -> Any:
        raise DidNotFoundError(did)

    async def find_identity(self, identifier: str, *, refresh: bool = False) -> Any:
        raise HandleNotFoundError(identifier)

    async def find_lexicon(self, nsid: str) -> Any:
        raise LexiconNotFoundError(nsid)

    async def fetch_blob(self, *_: Any) -> Any:
        raise XrpcError("BlobNotFound", "Blob not found")


class RefusedError(Exception):
    """An error answer."""

    def __init__(
        self, status: int, body: dict[str, Any], headers: Mapping[str, str] = {}
    ) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.name = body["error"]
        self.message = body["message"]
        self.headers = headers


@contextmanager
def serve_world(
    url: str,
    fill: Callable[[World], dict[str, str]] = fill_small,
    statuses: Mapping[str, str] = {"dan": "deactivated"},
    unnamed: Collection[str] = (),
    **changes: Any,
) -> Iterator[Provider]:
    """Fill the index at `url` and serve it.

    `statuses` are of accounts that are not active, `unnamed` accounts have no handle,
    `changes` are fields of the AppView.
    """
    micros = iter(range(round(START.timestamp() * 1e6), 2**53, 60_000_000))
    world = World(TidClock(1, lambda: next(micros)))
    uris = fill(world)
    with open_pool(url, max=6) as pool, open_pool(url, max=4) as names:
        interner = Interner(names)
        engine = PostgresEngine(pool)
        with pool.connection() as conn:
            conn.execute(
                "INSERT INTO host (hostname, url) VALUES (%s, %s)",
                ("pds.example.com", "https://pds.example.com"),
            )
        with pool.connection() as conn:
            commits = world.commits()
            apply_batch(conn, interner, commits, {}, datetime.now(UTC))
            conn.execute("UPDATE repo SET host = 1")
            conn.commit()
            apply_batch(
                conn,
                interner,
                [AccountEvent(did(n), False, how) for n, how in statuses.items()],
                {},
                datetime.now(UTC),
            )
            ids = interner.actors([did(name) for name in world.records])
            named = world.records.keys() - {*unnamed}
            handles = {ids[did(n)]: f"{n}.test" for n in named}
            save_handles(conn, handles, datetime.now(UTC))
            conn.commit()
        with pool.connection() as conn:
            while drain_outbox(conn, engine, TEXTS, 1000):
                pass
        generator = Generator(
            [
                ForeignSkeleton(
                    [
                        ForeignItem(uris.get("picture", "")),
                        ForeignItem("at://did:plc:x/a.b.c/1"),
                        ForeignItem(uris.get("dans", "")),
                    ],
                    "theirs",
                )
            ]
        )
        with serve_index(
            pool, names, engine=engine, fetch_skeleton=generator, **changes
        ) as (served, app):
            yield Provider(served, world, uris, url, app, generator)


@contextmanager
def serve_index(
    pool: Pool, names: Pool, **changes: Any
) -> Iterator[tuple[str, AppView]]:
    """Serve the index of `pool`, with private state in the database of `names`."""
    app = AppView(
        **{
            "pool": pool,
            "private": PrivateStore(names),
            "vault": Vault(b"secret of private state".ljust(32)),
            "engine": PostgresEngine(pool),
            "cursor_secret": b"secret",
            "service_did": SERVICE,
            "resolve_handle": _resolve_handle,
            "fetch_skeleton": Generator([]),
            "request_crawl": _refuse_crawl,
            "export_repo": open_export,
            "network": EmptyNetwork(),
            **changes,
        }
    )
    server = XrpcServer(Catalog.load(), authenticate=_authenticate, check_output=True)
    appview.add_methods(server, app)
    mirror.add_methods(server, app)
    with serving_in_thread(server.app(stream_routes(app))) as served:
        yield served, app


async def _authenticate(request: Request, nsid: str) -> Auth | None:
    viewer = request.headers.get("x-viewer")
    claims = {"aud": request.headers.get("x-aud", SERVICE)}
    return Auth(viewer, "test", claims) if viewer else None


async def _resolve_handle(handle: str, *, refresh: bool = False) -> str | None:
    if handle == "renamed.example.com" and not refresh:
        return did("alice")  # the owner an hour ago
    return did("outside") if handle == "outside.example.com" else None


async def _refuse_crawl(hostname: str, client: str) -> None:
    if hostname == "banned.example.com":
        raise XrpcError("HostBanned", "no", 400)
