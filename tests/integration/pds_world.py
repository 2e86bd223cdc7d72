"""A PLC directory and Personal Data Servers on loopback, and a plain client."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp
from websockets.sync.client import connect

from network.server.listener import serving_in_thread
from pds.application import create_app
from pds.settings import PdsSettings
from plc.directory import create_app as create_plc
from plc.submission_limits import SubmissionLimits
from protocol.events.frames import Frame, decode_frame
from protocol.identity.did_document import parse_did_document
from protocol.identity.keys import PublicKey, parse_did_key
from protocol.syntax import Did
from storage.postgres.pool import Pool, open_pool

PASSWORD = "correct horse battery"


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str | None:
        return self.json.get("error") if self.status >= 400 else None


@dataclass
class Client:
    """An XRPC client of one server, for one account once it has a token."""

    url: str
    token: str | None = None
    did: str = ""
    refresh_token: str = ""

    def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        token: str | None = None,
    ) -> Answer:
        request = urllib.request.Request(self.url + path, body, method=method)
        bearer = token or self.token
        if bearer is not None:
            request.add_header("Authorization", f"Bearer {bearer}")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=30) as got:
                return Answer(got.status, got.headers, got.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def announce(self, path: str, size: int, mime: str) -> Answer:
        """POST only the head of a request, which is refused by its size."""
        address = urllib.parse.urlsplit(self.url).netloc
        connection = http.client.HTTPConnection(address, timeout=30)
        with closing(connection):
            connection.putrequest("POST", path)
            connection.putheader("Authorization", f"Bearer {self.token}")
            connection.putheader("Content-Type", mime)
            connection.putheader("Content-Length", str(size))
            connection.endheaders()
            got = connection.getresponse()
            return Answer(got.status, got.headers, got.read())

    def get(self, nsid: str, **params: Any) -> Answer:
        query = urllib.parse.urlencode(params, doseq=True)
        return self.send("GET", f"/xrpc/{nsid}" + (f"?{query}" if query else ""))

    def post(self, nsid: str, body: Any = None, **more: Any) -> Answer:
        headers = more.pop("headers", {})
        raw = b""
        if body is not None:
            raw = json.dumps(body).encode()
            headers = {"Content-Type": "application/json"} | headers
        return self.send("POST", f"/xrpc/{nsid}", body=raw, headers=headers, **more)

    def create(self, record: dict[str, Any], **more: Any) -> Answer:
        return self.post(
            "com.atproto.repo.createRecord",
            {"repo": self.did, "collection": record["$type"], "record": record} | more,
        )

    def frames(self, count: int, cursor: int | None = None) -> list[Frame]:
        with self.subscribe(cursor) as receive:
            return [receive() for _ in range(count)]

    @contextmanager
    def subscribe(self, cursor: int | None = None) -> Iterator[Callable[[], Frame]]:
        url = self.url.replace("http", "ws", 1)
        url += "/xrpc/com.atproto.sync.subscribeRepos"
        if cursor is not None:
            url += f"?cursor={cursor}"
        with connect(url, max_size=5_000_000, compression=None) as socket_:

            def receive() -> Frame:
                raw = socket_.recv(timeout=20)
                assert isinstance(raw, bytes)
                return decode_frame(raw)

            yield receive


@dataclass
class World:
    """One directory, and the servers started so far."""

    make_database: Callable[[str], str]
    stack: ExitStack
    plc_url: str = ""
    pools: dict[str, Pool] = field(default_factory=dict)

    def start_plc(self) -> None:
        pool = self.stack.enter_context(open_pool(self.make_database("plc")))
        limits = SubmissionLimits(10_000, 10_000)
        self.plc_url = self.stack.enter_context(
            serving_in_thread(create_plc(pool, limits=limits))
        )

    def pool(self, name: str) -> Pool:
        if name not in self.pools:
            url = self.make_database("pds")
            self.pools[name] = self.stack.enter_context(open_pool(url))
        return self.pools[name]

    def settings(self, name: str, port: int, **changes: Any) -> PdsSettings:
        values: dict[str, Any] = {
            "public_url": f"http://localhost:{port}",
            "handle_domains": (f".{name}.test",),
            "plc_url": self.plc_url,
            "secret": name.encode() * 32,
            "dev": True,
            "logins_per_5_minutes": 10_000,
        }
        return PdsSettings(**(values | changes))

    @contextmanager
    def serve_pds(self, name: str = "a", **changes: Any) -> Iterator[Client]:
        """Serve a server; its database stays when it stops."""
        port = free_port()
        settings = self.settings(name, port, **changes)
        with serving_in_thread(create_app(settings, self.pool(name)), port=port):
            yield Client(f"http://localhost:{port}")

    def start_pds(self, name: str = "a", **changes: Any) -> Client:
        return self.stack.enter_context(self.serve_pds(name, **changes))

    def serve(self, app: ASGIApp) -> str:
        return self.stack.enter_context(serving_in_thread(app))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sign_up(server: Client, handle: str, **more: Any) -> Client:
    """Return a client logged in as a new account."""
    answer = Client(server.url).post(
        "com.atproto.server.createAccount",
        {"handle": handle, "password": PASSWORD} | more,
    )
    assert answer.status == 200, answer.body
    session = answer.json
    return Client(
        server.url, session["accessJwt"], session["did"], session["refreshJwt"]
    )


def signing_key_of(plc_url: str, did: str) -> PublicKey:
    """Return the signing key of an account in the directory."""
    with urllib.request.urlopen(f"{plc_url}/{did}", timeout=10) as answer:
        document = parse_did_document(json.load(answer), Did(did), dev=True)
    assert document.signing_key is not None
    return parse_did_key(document.signing_key)


def post(text: str, **more: Any) -> dict[str, Any]:
    return {
        "$type": "app.bsky.feed.post",
        "text": text,
        "createdAt": "2026-01-02T03:04:05.678Z",
    } | more
