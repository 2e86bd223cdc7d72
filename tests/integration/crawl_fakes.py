"""Doubles around the crawler: a directory in memory, and a recording sink."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crawler.identities.network_clients import NetworkClients
from network.errors import DidNotFoundError, UnreachableError
from network.http.client import Fetcher
from network.http.policy import HostLimits, Policy
from protocol.events.event import Event
from protocol.identity.did_document import DidDocument
from protocol.syntax.did import Did
from protocol.syntax.handle import Handle
from storage.repos.identities import save_document


@dataclass
class FakeResolver:
    """Documents by DID; counts requests."""

    documents: dict[str, DidDocument] = field(default_factory=dict)
    asked: list[tuple[str, bool]] = field(default_factory=list)
    down: bool = False
    remembered: dict[str, tuple[DidDocument, float]] = field(default_factory=dict)
    """DID -> what is given, to those who refresh too, until a monotonic time."""
    pool: Any = None
    """The cache of documents, as in the real one."""

    def put(self, did: str, pds: str | None, key: str | None = None) -> None:
        self.documents[did] = DidDocument(Did(did), (), key, None, pds, ())

    async def resolve_did(
        self,
        did: str,
        *,
        refresh: bool = False,
        insist: int = 0,
        mirrored: bool = False,
    ) -> DidDocument:
        self.asked.append((did, refresh))
        if self.down:
            raise UnreachableError("the directory is down")
        if self.refresh_in(did) > 0:
            return self.remembered[did][0]
        if self.pool is not None:
            await asyncio.to_thread(self.cache, did)
        if did not in self.documents:
            raise DidNotFoundError(did)
        return self.documents[did]

    def cache(self, did: str) -> None:
        """Save the document of a DID in Postgres, as the real one does."""
        document = self.documents.get(did)
        text = None if document is None else document_json(document)
        error = None if text else DidNotFoundError.__name__
        with self.pool.connection() as conn:
            save_document(conn, did, text, error, time.time())

    def refresh_in(self, did: str, *, insist: int = 0) -> float:
        _, until = self.remembered.get(did, (None, 0.0))
        return max(0.0, until - time.monotonic())

    async def verify_handle(
        self, document: DidDocument, *, refresh: bool = False
    ) -> Handle | None:
        return document.handles[0] if document.handles else None


def document_json(document: DidDocument) -> dict[str, Any]:
    """Return a DID document as its source gives it."""
    did = document.did
    json: dict[str, Any] = {
        "id": did,
        "alsoKnownAs": [f"at://{handle}" for handle in document.handles],
    }
    if document.signing_key is not None:
        json["verificationMethod"] = [
            {
                "id": f"{did}#atproto",
                "type": "Multikey",
                "controller": did,
                "publicKeyMultibase": document.signing_key.removeprefix("did:key:"),
            }
        ]
    if document.pds is not None:
        json["service"] = [
            {
                "id": "#atproto_pds",
                "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": document.pds,
            }
        ]
    return json


def fake_clients(resolver: FakeResolver) -> Any:
    """Return an opener of ways out: a real client on loopback, and the fake
    resolver."""

    @contextlib.asynccontextmanager
    async def open_clients() -> AsyncIterator[NetworkClients]:
        limits = HostLimits(rate=10_000, burst=1_000, concurrency=64)
        async with Fetcher(Policy(allow_loopback=True, limits=limits)) as fetcher:
            yield NetworkClients(fetcher, resolver)  # type: ignore[arg-type]

    return open_clients


@dataclass
class FakeApplied:
    applied: int = 0
    desynchronized: Sequence[Did] = ()


@dataclass
class FakeSink:
    """Records events, cursors and handles."""

    events: list[Event] = field(default_factory=list)
    cursors: dict[int, int] = field(default_factory=dict)
    handles: dict[str, str | None] = field(default_factory=dict)

    def apply(self, events: Sequence[Event], cursors: Mapping[int, int]) -> FakeApplied:
        self.events += events
        self.cursors.update(cursors)
        return FakeApplied(len(events))

    @contextlib.contextmanager
    def checkout(
        self, did: Did, host: int, selection: int | None = None
    ) -> Iterator[Any]:
        raise NotImplementedError
        yield

    def update_repo(self, *_: Any) -> bool:
        raise NotImplementedError

    def import_repos(self, repos: Sequence[Any]) -> Any:
        raise NotImplementedError

    def set_handle(self, did: Did, handle: Handle | None) -> None:
        self.handles[did] = handle
