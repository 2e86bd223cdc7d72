"""Reads of the read side beyond the index: identities, lexicons and blobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from appview.foreign_blobs import Blob, ForeignBlobs
from network.errors import UnreachableError
from network.identity.lexicon_source import LexiconSource, PublishedLexicon
from network.identity.resolver import IdentityResolver
from protocol.syntax import INVALID_HANDLE


@dataclass(frozen=True, slots=True)
class Identity:
    """An account's DID, verified handle or "handle.invalid", and whole document."""

    did: str
    handle: str
    document: Any

    def to_json(self) -> dict[str, Any]:
        """Return the lexicon's form."""
        return {"did": self.did, "handle": self.handle, "didDoc": self.document}


class NetworkReads(Protocol):
    """All methods raise NetworkError, IdentityError, ProtocolError or XrpcError."""

    async def find_document(self, did: str) -> Any:
        """Return the DID document as JSON."""

    async def find_identity(
        self, identifier: str, *, refresh: bool = False
    ) -> Identity:
        """Return the identity of a DID or handle; `refresh` bypasses the caches."""

    async def find_lexicon(self, nsid: str) -> PublishedLexicon:
        """Return the lexicon that the owner of an NSID publishes."""

    async def fetch_blob(
        self, client: str, url: str, cid: bytes, is_client_gone: Callable[[], bool]
    ) -> Blob:
        """Return a verified blob for a client (its key)."""


class Online:
    """Reads by guarded clients."""

    def __init__(
        self, resolver: IdentityResolver, lexicons: LexiconSource, blobs: ForeignBlobs
    ) -> None:
        self._resolver = resolver
        self._lexicons = lexicons
        self.fetch_blob = blobs.fetch
        self.find_lexicon = lexicons.resolve

    async def find_document(self, did: str) -> Any:
        return await self._resolver.resolve_json(did)

    async def find_identity(
        self, identifier: str, *, refresh: bool = False
    ) -> Identity:
        resolver, did = self._resolver, identifier
        if not identifier.startswith("did:"):
            did = await resolver.resolve_handle(identifier, refresh=refresh)
        document = await resolver.resolve_did(did, refresh=refresh)
        handle = await resolver.verify_handle(document, refresh=refresh)
        whole = await resolver.resolve_json(did)
        return Identity(did, handle or INVALID_HANDLE, whole)


class Offline:
    """Reads of a process without a network: all of them fail."""

    async def find_document(self, did: str) -> Any:
        raise _unreachable(did)

    async def find_identity(
        self, identifier: str, *, refresh: bool = False
    ) -> Identity:
        raise _unreachable(identifier)

    async def find_lexicon(self, nsid: str) -> PublishedLexicon:
        raise _unreachable(nsid)

    async def fetch_blob(
        self, client: str, url: str, cid: bytes, is_client_gone: Callable[[], bool]
    ) -> Blob:
        raise _unreachable(url)


def _unreachable(name: str) -> UnreachableError:
    return UnreachableError(f"this process has no network: {name[:200]}")
