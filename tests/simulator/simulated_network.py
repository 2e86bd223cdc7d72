"""A whole network on one machine: a directory, honest hosts, hostile hosts.

Its public internet is 127.7.0.0/16; the crawler may dial no other address. A canary
listens on 127.0.0.1: a connection to it is a fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from crawl_world import FakeHost
from raw_host import Answer, Loop, RawHost, open_loop
from simulated_accounts import ACTIVE, DELETED, Sent, SimulatedAccounts
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from bench.fake_accounts import Member
from crawler.hosts.host_name import parse_host
from network.server.listener import serving_in_thread
from protocol.data.cid import cid_for, cid_to_text
from storage.hosts import host_rows
from storage.postgres.pool import Conn

DIRECTORY = "127.7.0.1"
_GONE = {DELETED: "RepoTakendown", "deactivated": "RepoDeactivated"}


@dataclass
class Faults:
    """Faults of the transport, as shares of all frames (or requests)."""

    lost: float = 0.0
    repeated: float = 0.0
    cut: float = 0.0
    refused: float = 0.0
    directory_down: float = 0.0
    seen: dict[str, int] = field(default_factory=dict)

    def strikes(self, name: str, draw: random.Random) -> bool:
        """Draw if the fault happens now; count it if so."""
        share: float = getattr(self, name)
        if not share or draw.random() >= share:
            return False
        self.seen[name] = self.seen.get(name, 0) + 1
        return True


class Directory(RawHost):
    """The PLC directory, and the well-known files of handles."""

    def __init__(self, faults: Faults, draw: random.Random) -> None:
        super().__init__()
        self.documents: dict[str, dict[str, Any]] = {}
        self.populations: list[tuple[SimulatedAccounts, Mapping[str, str]]] = []
        self.others: Any = None
        self._faults = faults
        self._draw = draw

    def put(self, did: str, handle: str, pds: str, key: str) -> None:
        """Register an account outside the population."""
        self.documents[did] = document(did, handle, pds, key)

    async def answer(self, method: str, params: Mapping[str, str]) -> Answer:
        name = method.strip("/")
        if name == ".well-known/atproto-did":
            return self._well_known(params[""].partition(":")[0])
        if self._faults.strikes("directory_down", self._draw):
            return Answer(503, b"<html>busy</html>")
        found = self.find(name)
        if found is None:
            return Answer.of_json({"message": "not registered"}, 404)
        return Answer.of_json(found)

    def find(self, did: str) -> dict[str, Any] | None:
        for population, urls in self.populations:
            life = population.lives.get(did)  # type: ignore[call-overload]
            if life is not None:
                key = population.member(did).key.public.did_key  # type: ignore[arg-type]
                return document(did, life.handle, urls[life.home], key)
        if did in self.documents:
            return self.documents[did]
        return self.others(did) if self.others is not None else None

    def _well_known(self, handle: str) -> Answer:
        for population, _ in self.populations:
            for did, life in population.lives.items():
                if life.handle == handle:
                    return Answer(200, did.encode(), {"Content-Type": "text/plain"})
        return Answer(404, b"")


def document(did: str, handle: str, pds: str, key: str) -> dict[str, Any]:
    """Return a DID document."""
    return {
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": did,
        "alsoKnownAs": [f"at://{handle}"],
        "verificationMethod": [
            {
                "id": f"{did}#atproto",
                "type": "Multikey",
                "controller": did,
                "publicKeyMultibase": key.removeprefix("did:key:"),
            }
        ],
        "service": [
            {
                "id": "#atproto_pds",
                "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": pds,
            }
        ],
    }


class HonestHost(FakeHost):
    """A PDS of the population: its stream, listing and repos, with faults."""

    def __init__(
        self, name: str, population: SimulatedAccounts, faults: Faults, seed: int
    ) -> None:
        super().__init__()
        self.name = name
        self.population = population
        self._faults = faults
        self._draw = random.Random(seed)

    def take(self, sent: Sent) -> bool:
        """Put a frame on the stream, unless it gets lost before."""
        if self._faults.strikes("lost", self._draw):
            return False
        self.frames.append((sent.seq, sent.raw))
        if self._faults.strikes("repeated", self._draw):
            # The same bytes, under the same number.
            self.frames.append((sent.seq, sent.raw))
        self.stream.wake()
        return True

    async def _subscribe(self, websocket: WebSocket) -> None:
        if self._faults.cut:
            life = self._draw.expovariate(self._faults.cut)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(life):
                    await super()._subscribe(websocket)
                return
            self._faults.seen["cut"] = self._faults.seen.get("cut", 0) + 1
            return
        await super()._subscribe(websocket)

    async def _list_repos(self, _: Request) -> Response:
        with self.population.lock:
            repos = [
                self._entry(member)
                for member in self.population.members_of(self.name)
                if member.rev is not None
            ]
        return JSONResponse({"repos": repos})

    def _entry(self, member: Member) -> dict[str, Any]:
        status = self.population.lives[member.did].status
        entry = {
            "did": member.did,
            "head": cid_to_text(cid_for(member.commit)),
            "rev": member.rev,
            "active": status == ACTIVE,
        }
        return entry if status == ACTIVE else entry | {"status": status}

    async def _get_repo(self, request: Request) -> Response:
        did = request.query_params["did"]
        self.repo_requests.append(did)
        if self._faults.strikes("refused", self._draw):
            return Response("<html>busy</html>", 503)
        return await asyncio.to_thread(self._repo, did)

    def _repo(self, did: str) -> Response:
        with self.population.lock:
            life = self.population.lives.get(did)  # type: ignore[call-overload]
            if life is None or life.home != self.name:
                return JSONResponse({"error": "RepoNotFound"}, status_code=400)
            if life.status != ACTIVE:
                error = {"error": _GONE[life.status], "message": did}
                return JSONResponse(error, status_code=400)
            member = self.population.member(did)  # type: ignore[arg-type]
            body = b"".join(self.population.car(member))
        self.before_repo(did)
        return Response(body, media_type="application/vnd.ipld.car")


class Canary(RawHost):
    """A listener that no client may reach; `connections` must stay 0."""


class SimulatedNetwork:
    """The directory, the hosts, and the accounts on them."""

    def __init__(
        self, *, hosts: int, accounts: int, seed: int, faults: Faults | None = None
    ) -> None:
        self.faults = faults or Faults()
        names = [f"pds{n}" for n in range(hosts)]
        self.population = SimulatedAccounts(accounts, names, seed=seed)
        self.hosts: dict[str, HonestHost] = {}
        self.urls: dict[str, str] = {}
        self.directory = Directory(self.faults, random.Random(seed + 1))
        self.directory.populations.append((self.population, self.urls))
        self.canary = Canary()
        self.hostile: list[RawHost] = []
        self.names: dict[str, list[list[str]]] = {}
        self._seed = seed
        self._next = 10
        self._stack = contextlib.ExitStack()
        self.loop: Loop = self._stack.enter_context(open_loop())
        self._open()

    def _open(self) -> None:
        self.loop.run(self.directory.open(DIRECTORY))
        self._stack.callback(lambda: self.loop.run(self.directory.shut()))
        self.loop.run(self.canary.open("127.0.0.1"))
        self._stack.callback(lambda: self.loop.run(self.canary.shut()))
        for number, name in enumerate(self.population.hosts):
            host = HonestHost(name, self.population, self.faults, self._seed + number)
            host.url = self.urls[name] = self._stack.enter_context(
                serving_in_thread(host.app(), self.address())
            )
            self.hosts[name] = host

    def address(self) -> str:
        """Return an unused address of this network."""
        self._next += 1
        return f"127.7.0.{self._next}"

    def add(self, host: RawHost) -> None:
        """Add a host that answers for itself."""
        self.loop.run(host.open(self.address()))
        self._stack.callback(lambda: self.loop.run(host.shut()))
        self.hostile.append(host)

    def close(self) -> None:
        self._stack.close()

    def register(self, url: str) -> dict[str, int]:
        """Insert the honest hosts into an index; return host name -> row id."""
        rows: dict[str, int] = {}
        with psycopg.connect(url) as conn:
            for name, host in self.hosts.items():
                rows[name] = put_host(conn, host.url, host_rows.SOURCE_CONFIGURED)
        return rows

    def take(self, sent: Sent) -> None:
        self.hosts[sent.host].take(sent)


def put_host(conn: Conn, url: str, source: str) -> int:
    """Insert a host, to be read from its first frame on."""
    address = parse_host(url, dev=True)
    row, _ = host_rows.put_host(conn, address.name, address.url, source=source)
    conn.execute(
        "INSERT INTO host_cursor (host, seq) VALUES (%s, 0) ON CONFLICT DO NOTHING",
        (row,),
    )
    return row
