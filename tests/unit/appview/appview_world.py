"""A small world, applied to a real index and asked over real HTTP.

Answers are checked against their lexicons by the server itself: one that does not fit
is a 500, which every test here would see.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request

from appview import server as appview
from appview.app import AppView, ForeignItem, ForeignSkeleton
from indexer.apply import apply_batch
from indexer.collections.texts import TEXTS
from indexer.identity import save_handles
from indexer.repos.export import open_export
from mirror import methods as mirror
from network.server.listener import serving_in_thread
from network.xrpc.server import Auth, XrpcError, XrpcServer
from protocol.data.cbor import encode
from protocol.data.cid import cid_for, cid_to_text, raw_cid_for
from protocol.data.json_form import from_json
from protocol.events.event import AccountEvent, CommitEvent, RecordOp
from protocol.identity.keys import PrivateKey
from protocol.lexicon import Catalog
from protocol.mst import EMPTY_ROOT, build_root
from protocol.repo.commit import sign_commit
from protocol.syntax import TidClock
from search.drain import drain_outbox
from search.engines.postgres import PostgresEngine
from storage.postgres.pool import open_pool
from storage.records.interning import Interner

SERVICE = "did:web:provider.example.com"
FOREIGN_SERVICE = "did:web:feeds.example.com"
FEED_PUBLISHER = "carol"
START = datetime(2026, 11, 1, tzinfo=UTC)
PICTURE = {
    "$type": "blob",
    "ref": {"$link": cid_to_text(raw_cid_for(b"picture"))},
    "mimeType": "image/jpeg",
    "size": 1000,
}


def did(name: str) -> str:
    return f"did:plc:{name.ljust(24, 'a')}"


@dataclass
class World:
    """What was written, before it is applied."""

    clock: TidClock
    moment: datetime = START
    records: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    keys: dict[str, PrivateKey] = field(default_factory=dict)

    def write(
        self, name: str, collection: str, record: dict[str, Any], rkey: str = ""
    ) -> str:
        """Add a record; its AT-URI."""
        self.moment += timedelta(minutes=1)
        rkey = rkey or self.clock.next()
        made = {"$type": collection, "createdAt": self.moment.isoformat()}
        path = f"{collection}/{rkey}"
        self.records.setdefault(name, {})[path] = made | record
        return f"at://{did(name)}/{path}"

    def post(self, name: str, text: str, **fields: Any) -> str:
        return self.write(name, "app.bsky.feed.post", {"text": text, **fields})

    def like(self, name: str, uri: str) -> str:
        return self.write(name, "app.bsky.feed.like", {"subject": self.reference(uri)})

    def repost(self, name: str, uri: str) -> str:
        subject = {"subject": self.reference(uri)}
        return self.write(name, "app.bsky.feed.repost", subject)

    def follow(self, name: str, other: str) -> str:
        return self.write(name, "app.bsky.graph.follow", {"subject": did(other)})

    def reference(self, uri: str) -> dict[str, str]:
        owner, path = uri.removeprefix("at://").split("/", 1)
        name = next(n for n in self.records if did(n) == owner)
        return {"uri": uri, "cid": self.cid(name, path)}

    def cid(self, name: str, path: str) -> str:
        return cid_to_text(cid_for(encode(from_json(self.records[name][path]))))

    def commits(self) -> list[CommitEvent]:
        """One first commit for each account."""
        events = []
        for name, records in self.records.items():
            blocks = {p: encode(from_json(r)) for p, r in sorted(records.items())}
            data = build_root((p.encode(), cid_for(b)) for p, b in blocks.items())
            key = self.keys[name] = PrivateKey.generate("k256")
            rev = self.clock.next()
            ops = []
            for path, block in blocks.items():
                collection, rkey = path.split("/")
                ops.append(RecordOp("create", collection, rkey, cid_for(block), block))
            commit = sign_commit(did(name), data, rev, key)
            events.append(
                CommitEvent(did(name), rev, None, data, EMPTY_ROOT, commit, ops)
            )
        return events


@dataclass
class Provider:
    """The served world, and how to ask it."""

    url: str
    world: World
    uris: dict[str, str]
    database: str
    app: AppView
    generator: Generator

    def get(
        self,
        nsid: str,
        *,
        viewer: str | None = None,
        headers: Mapping[str, str] = {},
        **params: Any,
    ) -> Any:
        """The JSON answer of a query; an error answer raises `RefusedError`."""
        body, _ = self.ask(nsid, viewer=viewer, headers=headers, **params)
        return json.loads(body)

    def ask(
        self,
        nsid: str,
        *,
        viewer: str | None = None,
        headers: Mapping[str, str] = {},
        **params: Any,
    ) -> tuple[bytes, Mapping[str, str]]:
        url = f"{self.url}/xrpc/{nsid}?{urllib.parse.urlencode(params, doseq=True)}"
        request = urllib.request.Request(url, headers=dict(headers))
        if viewer is not None:
            request.add_header("x-viewer", did(viewer))
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                body = json.loads(error.read())
                raise RefusedError(error.code, body, error.headers) from None

    def pages(self, nsid: str, name: str, **params: Any) -> list[Any]:
        """All items of a paged query; fails if it does not end."""
        items: list[Any] = []
        cursor: dict[str, str] = {}
        for _ in range(40):
            answer = self.get(nsid, **params, **cursor)
            items += answer[name]
            if "cursor" not in answer:
                return items
            cursor = {"cursor": answer["cursor"]}
        raise AssertionError(f"{nsid} does not end")


@dataclass
class Generator:
    """A feed service: gives its pages in turn (the last one again and again)."""

    pages: list[ForeignSkeleton | XrpcError]
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, service_did: str, **asked: Any) -> ForeignSkeleton:
        assert service_did == FOREIGN_SERVICE
        self.asked.append(asked)
        page = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        if isinstance(page, XrpcError):
            raise page
        return page


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


def _fill(world: World) -> dict[str, str]:
    """Alice, Bob and Carol talk; Dan is deactivated; Eve blocks Alice."""
    for name, display in (("alice", "Alice"), ("bob", "Bob"), ("carol", "Carol")):
        world.write(
            name,
            "app.bsky.actor.profile",
            {"displayName": display, "description": f"I am {name}", "avatar": PICTURE},
            "self",
        )
    uris = {
        "hello": world.post("alice", "Hello quokka", langs=["en"]),
        "dans": world.post("dan", "Dan was here, quokka"),
        "eves": world.post("eve", "Eve's quokka"),
        "picture": world.post(
            "bob",
            "look",
            embed={
                "$type": "app.bsky.embed.images",
                "images": [
                    {
                        "alt": "a wombat",
                        "image": PICTURE,
                        "aspectRatio": {"width": 4, "height": 3},
                    }
                ],
            },
        ),
        "external": world.post(
            "bob",
            "a link",
            embed={
                "$type": "app.bsky.embed.external",
                "external": {
                    "uri": "https://example.com/x",
                    "title": "X",
                    "description": "d",
                },
            },
            labels={
                "$type": "com.atproto.label.defs#selfLabels",
                "values": [{"val": "spoiler"}],
            },
        ),
    }

    def answer(name: str, text: str, parent: str, root: str) -> str:
        reply = {
            "root": world.reference(uris[root]),
            "parent": world.reference(uris[parent]),
        }
        return world.post(name, text, reply=reply)

    def quote(uri: str) -> dict[str, Any]:
        return {"$type": "app.bsky.embed.record", "record": world.reference(uri)}

    uris["reply"] = answer("bob", "Hi Alice", "hello", "hello")
    uris["reply2"] = answer("carol", "Hi both", "reply", "hello")
    uris["reply3"] = answer("alice", "Thanks", "reply2", "hello")
    uris["hidden_reply"] = answer("dan", "nobody sees me", "hello", "hello")
    uris["quote"] = world.post("carol", "see this", embed=quote(uris["picture"]))
    uris["quote_hidden"] = world.post("carol", "gone", embed=quote(uris["dans"]))
    uris["quote_media"] = world.post(
        "carol",
        "both",
        embed={
            "$type": "app.bsky.embed.recordWithMedia",
            "record": quote(uris["hello"]),
            "media": world.records["bob"][uris["picture"].split("/", 3)[3]]["embed"],
        },
    )
    uris["list"] = world.write(
        "carol",
        "app.bsky.graph.list",
        {"name": "friends", "purpose": "app.bsky.graph.defs#curatelist"},
    )
    world.write(
        "carol",
        "app.bsky.graph.listitem",
        {"subject": did("alice"), "list": uris["list"]},
    )
    for name in ("latest", "popular", "following", "unknown"):
        uris[f"feed_{name}"] = world.write(
            FEED_PUBLISHER,
            "app.bsky.feed.generator",
            {"did": SERVICE, "displayName": name.title(), "description": "a feed"},
            name,
        )
    uris["feed_foreign"] = world.write(
        FEED_PUBLISHER,
        "app.bsky.feed.generator",
        {"did": FOREIGN_SERVICE, "displayName": "Foreign"},
        "foreign",
    )
    uris["quote_list"] = world.post("carol", "my list", embed=quote(uris["list"]))
    uris["quote_feed"] = world.post("bob", "nice", embed=quote(uris["feed_latest"]))
    # A feed that has no record in any repo, liked and quoted all the same.
    uris["own_latest"] = f"at://{SERVICE}/app.bsky.feed.generator/latest"
    subject = {"uri": uris["own_latest"], "cid": world.reference(uris["hello"])["cid"]}
    world.write("dan", "app.bsky.feed.like", {"subject": subject})
    own_quote = {"$type": "app.bsky.embed.record", "record": subject}
    uris["quote_own"] = world.post("carol", "from the provider", embed=own_quote)
    for name in ("bob", "carol", "dan"):
        world.like(name, uris["hello"])
        world.follow(name, "alice")
    world.like("alice", uris["picture"])
    world.like("alice", uris["feed_latest"])
    uris["repost"] = world.repost("bob", uris["hello"])
    world.repost("carol", uris["hello"])
    world.follow("alice", "bob")
    world.write("eve", "app.bsky.graph.block", {"subject": did("alice")})
    uris["strange"] = world.write(
        "alice", "org.example.garden.plant", {"name": "fern", "height": 3}, "fern"
    )
    for i in range(12):
        world.post("bob", f"number {i} of many")
    return uris


@contextmanager
def serve_world(
    url: str,
    fill: Callable[[World], dict[str, str]] = _fill,
    statuses: Mapping[str, str] = {"dan": "deactivated"},
    unnamed: Collection[str] = (),
    **changes: Any,
) -> Iterator[Provider]:
    """Fill the index at `url` and serve it. `statuses`: accounts that are not active;
    `unnamed`: accounts without a handle; `changes` are of the AppView."""
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
        app = AppView(
            pool=pool,
            engine=engine,
            cursor_secret=b"secret",
            service_did=SERVICE,
            resolve_handle=_resolve_handle,
            fetch_skeleton=generator,
            request_crawl=_refuse_crawl,
            export_repo=open_export,
            **changes,
        )
        server = XrpcServer(
            Catalog.load(), authenticate=_authenticate, check_output=True
        )
        appview.add_methods(server, app)
        mirror.add_methods(server, app)
        with serving_in_thread(server.app()) as served:
            yield Provider(served, world, uris, url, app, generator)


async def _authenticate(request: Request, nsid: str) -> Auth | None:
    viewer = request.headers.get("x-viewer")
    claims = {"aud": request.headers.get("x-aud", SERVICE)}
    return Auth(viewer, "test", claims) if viewer else None


async def _resolve_handle(handle: str, *, refresh: bool = False) -> str | None:
    if handle == "renamed.example.com" and not refresh:
        return did("alice")  # who had it an hour ago
    return did("outside") if handle == "outside.example.com" else None


async def _refuse_crawl(hostname: str, client: str) -> None:
    if hostname == "banned.example.com":
        raise XrpcError("HostBanned", "no", 400)
