"""A PLC directory and Personal Data Servers on loopback, and a plain client."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp
from websockets.sync.client import connect

from network.server.listener import serving_in_thread
from pds.application import create_app
from pds.mail import MailSettings
from pds.settings import PdsSettings
from plc.directory import create_app as create_plc
from plc.submission_limits import SubmissionLimits
from protocol.events.frames import Frame, decode_frame
from protocol.identity.did_document import parse_did_document
from protocol.identity.keys import PublicKey, parse_did_key
from protocol.syntax import Did
from storage.postgres.pool import Pool, open_pool

PASSWORD = "correct horse battery"
ADMIN_PASSWORD = "operator of the test"
NOTE = "dev.example.note"

_numbers = count()


def basic_login() -> dict[str, str]:
    """Return the header of the operator's login."""
    word = base64.b64encode(f"admin:{ADMIN_PASSWORD}".encode()).decode()
    return {"Authorization": f"Basic {word}"}


def fetch(method: str, url: str, **options: Any) -> httpx.Response:
    """Send one plain request on loopback."""
    options = {"timeout": 30, "trust_env": False, "verify": False} | options
    return httpx.request(method, url, **options)


def read_json(url: str) -> Any:
    return fetch("GET", url).json()


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
    """A client of one server, as one account if it has a token."""

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
        sent = {"Accept-Encoding": "identity"} | (headers or {})
        if token or self.token:
            sent.setdefault("Authorization", f"Bearer {token or self.token}")
        got = fetch(method, self.url + path, content=body, headers=sent)
        return Answer(got.status_code, got.headers, got.content)

    def announce(self, path: str, size: int, mime: str) -> Answer:
        """POST only the head of a request, for a refusal by its declared size."""
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

    def operate(self, nsid: str, body: Any = None, **params: Any) -> Answer:
        """Call a method as the operator: a procedure with a body, else a query."""
        headers = basic_login()
        if body is not None:
            return self.post(nsid, body, headers=headers)
        query = urllib.parse.urlencode(params, doseq=True)
        return self.send("GET", f"/xrpc/{nsid}?{query}", headers=headers)

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
    """One directory and its servers; closed by `stack`."""

    make_database: Callable[[str], str]
    stack: ExitStack
    folder: Path
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

    def mail_folder(self, name: str) -> Path:
        """Return the folder of the mails of a server."""
        return self.folder / f"mail-{name}"

    def newest_mail(self, name: str = "a") -> str:
        """Return the text of the newest mail."""
        newest = max(self.mail_folder(name).glob("*.eml"))
        message = message_from_bytes(newest.read_bytes(), policy=policy.default)
        return str(message.get_content())

    def mailed_token(self, name: str = "a") -> str:
        """Return the token in the newest mail."""
        found = re.search(r"[A-Z2-7]{5}-[A-Z2-7]{5}", self.newest_mail(name))
        assert found is not None
        return found[0]

    def settings(self, name: str, port: int, **changes: Any) -> PdsSettings:
        values: dict[str, Any] = {
            "public_url": f"http://localhost:{port}",
            "handle_domains": (f".{name}.test",),
            "plc_url": self.plc_url,
            "secret": name.encode() * 32,
            "dev": True,
            "logins_per_5_minutes": 10_000,
            "admin_password": ADMIN_PASSWORD,
            "mail": MailSettings("server@example.com", folder=self.mail_folder(name)),
        }
        return PdsSettings(**(values | changes))

    @contextmanager
    def serve_pds(self, name: str = "a", **changes: Any) -> Iterator[Client]:
        """Serve a PDS; its database stays when it stops."""
        port = free_port()
        settings = self.settings(name, port, **changes)
        with serving_in_thread(create_app(settings, self.pool(name)), port=port):
            yield Client(f"http://localhost:{port}")

    def start_pds(self, name: str = "a", **changes: Any) -> Client:
        return self.stack.enter_context(self.serve_pds(name, **changes))

    def serve(self, app: ASGIApp) -> str:
        return self.stack.enter_context(serving_in_thread(app))


def new_account(server: Client) -> Client:
    """Create an account under a name of its own."""
    return sign_up(server, f"account{next(_numbers)}.a.test")


def head(client: Client) -> dict[str, str]:
    found: dict[str, str] = client.get(
        "com.atproto.sync.getLatestCommit", did=client.did
    ).json
    return found


def signing_key(client: Client) -> PublicKey:
    described = client.get("com.atproto.repo.describeRepo", repo=client.did).json
    multikey = described["didDoc"]["verificationMethod"][0]["publicKeyMultibase"]
    return parse_did_key("did:key:" + multikey)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sign_up(server: Client, handle: str, **more: Any) -> Client:
    """Create an account; return a client with its session."""
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
    document = parse_did_document(read_json(f"{plc_url}/{did}"), Did(did), dev=True)
    assert document.signing_key is not None
    return parse_did_key(document.signing_key)


def note(text: str, **more: Any) -> dict[str, Any]:
    return {"$type": NOTE, "text": text} | more


def post(text: str, **more: Any) -> dict[str, Any]:
    return {
        "$type": "app.bsky.feed.post",
        "text": text,
        "createdAt": "2026-01-02T03:04:05.678Z",
    } | more
