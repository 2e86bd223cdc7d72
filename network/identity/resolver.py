"""Identity resolution both ways: DID to document, handle to DID (specs/did, handle).

Results and failures are cached in memory and in a shared cache. One lookup runs at a
time for each name, and a DID is fetched at most once a minute.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from cachetools import LRUCache

from network.errors import (
    BadDocumentError,
    HandleMismatchError,
    HandleNotFoundError,
    IdentityError,
    NetworkError,
)
from network.http.breaker import Breaker
from network.http.budget import TokenBucket
from network.http.client import Fetcher
from network.http.dns import DnsTxtLookup, TxtLookup
from network.http.policy import HostLimits
from network.http.single_flight import SingleFlight
from network.identity.did_sources import DidSources, DocumentMirror
from network.identity.handle_sources import HandleSources
from network.identity.identity_cache import (
    CachedDocument,
    CachedHandle,
    IdentityCache,
    revive_error,
)
from protocol.errors import InvalidSyntaxError, ProtocolError
from protocol.identity.did_document import DidDocument, parse_did_document
from protocol.identity.keys import parse_did_key
from protocol.syntax import (
    INVALID_HANDLE,
    Did,
    Handle,
    is_resolvable_handle,
    normalize_handle,
    parse_did,
)

DEFAULT_PLC_URL: Final = "https://plc.directory"

# The cost of a Python object besides its text.
_ENTRY_BYTES: Final = 1_000
_TEXT_BYTES: Final = 60

parse_key: Final = lru_cache(maxsize=65_536)(parse_did_key)


@dataclass(frozen=True, slots=True)
class IdentityLimits:
    """The limits of a resolver, times in seconds.

    `plc_rate` is requests a second to the directory, shared by all with the same
    `plc_bucket`.
    """

    document_ttl: float = 86_400.0
    stale_ttl: float = 604_800.0
    handle_ttl: float = 21_600.0
    negative_ttl: float = 300.0
    refresh_interval: float = 60.0
    handle_interval: float = 5.0
    plc_rate: float = 50.0
    plc_concurrency: int = 32
    plc_bucket: TokenBucket | None = None
    breaker_errors: int = 20
    breaker_pause: float = 30.0
    memory_entries: int = 50_000
    memory_bytes: int = 64_000_000


@dataclass(frozen=True, slots=True)
class _Entry:
    document: DidDocument | None
    error: IdentityError | NetworkError | None
    fetched_at: float


class IdentityResolver:
    """A resolver of DIDs and handles through one guarded fetcher.

    `cache` is shared between processes (None: memory only). `dns` finds TXT values.
    `mirror` is asked for a did:plc before the directory, unless the document must be
    fresh. `dev` allows http and loopback documents, and `.test` handles at the servers
    in `dev_pds`.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        plc_url: str = DEFAULT_PLC_URL,
        cache: IdentityCache | None = None,
        dns: TxtLookup | None = None,
        dev: bool = False,
        *,
        dev_pds: Sequence[str] = (),
        mirror: DocumentMirror | None = None,
        limits: IdentityLimits | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._limits = limits = limits or IdentityLimits()
        self._cache = cache
        self._dev = dev
        self._now = now
        breaker = Breaker(limits.breaker_errors, limits.breaker_pause, now)
        self._dids = DidSources(fetcher, plc_url, breaker, dev=dev, mirror=mirror)
        self._handles = HandleSources(
            fetcher, dns or DnsTxtLookup(), dev_pds if dev else ()
        )
        fetcher.set_limits(
            plc_url,
            HostLimits(
                rate=limits.plc_rate,
                burst=max(1, int(limits.plc_rate)),
                concurrency=limits.plc_concurrency,
            ),
            limits.plc_bucket,
        )
        self._entries: LRUCache[str, _Entry] = LRUCache(limits.memory_bytes, _weigh)
        self._asked_at: LRUCache[str, float] = LRUCache(limits.memory_entries)
        self._known: LRUCache[str, CachedHandle] = LRUCache(limits.memory_entries)
        self._did_flights: SingleFlight[tuple[str, bool], _Entry] = SingleFlight()
        self._handle_flights: SingleFlight[tuple[str, bool], CachedHandle] = (
            SingleFlight()
        )

    # DID to document.

    async def resolve_did(
        self,
        did: str,
        *,
        refresh: bool = False,
        insist: int = 0,
        mirrored: bool = False,
    ) -> DidDocument:
        """Return the document of a DID, from cache or from its source.

        `refresh` fetches from the source, unless that happened within the last minute.
        `insist` allows that many more fetches within the minute, taken from the next
        ones. `mirrored` allows a mirror for a refresh, though it may be seconds behind.

        Raises InvalidSyntaxError, or IdentityError if the DID does not resolve. Raises
        NetworkError if the source failed; without `refresh` an older document is
        returned instead.
        """
        parsed = parse_did(did)
        self._dids.check(parsed)
        entry = self._entries.get(did)
        if entry is None or self._wants_fetch(did, entry, refresh, insist):
            entry = await self._did_flights.run(
                (did, refresh and not mirrored),
                lambda: self._load(parsed, entry, refresh, mirrored),
            )
        if entry.document is None:
            assert entry.error is not None
            raise entry.error
        return entry.document

    async def resolve_json(self, did: str) -> Any:
        """Return the whole document of a DID as JSON. Raises as `resolve_did` does."""
        await self.resolve_did(did)
        stored = None if self._cache is None else await self._cache.load_document(did)
        if stored is not None and stored.document is not None:
            return stored.document
        # Evicted, or too long for the cache.
        return await self._dids.fetch(parse_did(did))

    def refresh_in(self, did: str, *, insist: int = 0) -> float:
        """Return the seconds until `resolve_did` with `refresh` fetches this DID again.

        Until then it returns the cached document.
        """
        asked_at = self._asked_at.get(did)
        if asked_at is None:
            return 0.0
        due = asked_at + self._limits.refresh_interval * (1 - insist)
        return max(0.0, due - self._now())

    def _wants_fetch(self, did: str, entry: _Entry, refresh: bool, insist: int) -> bool:
        if refresh:
            return self.refresh_in(did, insist=insist) <= 0
        return not self._is_fresh(entry)

    def _is_fresh(self, entry: _Entry) -> bool:
        ttl = self._limits.document_ttl
        if entry.document is None:
            # A temporary failure is retried earlier.
            is_final = isinstance(entry.error, IdentityError)
            limits = self._limits
            ttl = limits.negative_ttl if is_final else limits.refresh_interval
        return self._now() - entry.fetched_at < ttl

    async def _load(
        self, did: Did, known: _Entry | None, refresh: bool, mirrored: bool
    ) -> _Entry:
        if not refresh and self._cache is not None:
            stored = await self._cache.load_document(did)
            if stored is not None:
                entry = self._read_stored(did, stored)
                if entry is not None and self._is_fresh(entry):
                    self._entries[did] = entry
                    return entry
                if known is None or known.document is None:
                    known = entry
        before = self._asked_at.get(did)
        # An early fetch counts as made at the time when it would be due.
        self._asked_at[did] = self._now() + (self.refresh_in(did) if refresh else 0)
        try:
            fetched = await self._dids.fetch(did, direct=refresh and not mirrored)
            entry = _Entry(self._parse(did, fetched), None, self._now())
        except IdentityError as error:
            fetched = None
            entry = _Entry(None, error, self._now())
        except asyncio.CancelledError:
            # Cancelled by all callers: the next one may fetch.
            self._asked_at[did] = -math.inf if before is None else before
            raise
        except NetworkError as error:
            return self._entry_without_source(did, known, error, refresh)
        self._entries[did] = entry
        if self._cache is not None:
            name = type(entry.error).__name__ if entry.error else None
            stored = CachedDocument(fetched, name, entry.fetched_at)
            await self._cache.save_document(did, stored)
        return entry

    def _entry_without_source(
        self, did: Did, known: _Entry | None, error: NetworkError, refresh: bool
    ) -> _Entry:
        if known is None or known.document is None:
            failed = _Entry(None, error, self._now())
            self._entries[did] = failed
            return failed
        if refresh or self._now() - known.fetched_at > self._limits.stale_ttl:
            raise error
        return known

    def _parse(self, did: Did, document: object) -> DidDocument:
        try:
            return parse_did_document(document, did, dev=self._dev)
        except ProtocolError as error:
            raise BadDocumentError(f"{did}: {error}") from error

    def _read_stored(self, did: Did, stored: CachedDocument) -> _Entry | None:
        if stored.document is None:
            error = revive_error(stored.error, did)
            return _Entry(None, error, stored.fetched_at) if error else None
        try:
            document = self._parse(did, stored.document)
        except BadDocumentError:
            return None  # written by another version of us
        return _Entry(document, None, stored.fetched_at)

    # Handle to DID.

    async def resolve_handle(self, handle: str, *, refresh: bool = False) -> Did:
        """Return the DID that a handle's domain names; the DID may not claim it.

        With `refresh` no result is older than the call. A domain is asked for a handle
        once in `handle_interval`; earlier callers wait. If the domain cannot be asked,
        its last result holds for a week. Raises InvalidSyntaxError,
        HandleNotFoundError, HandleMismatchError, NetworkError.
        """
        name = normalize_handle(handle)
        if not is_resolvable_handle(name, allow_test=self._dev):
            raise HandleNotFoundError(f"{name} is not a public name")
        known = self._known.get(name)
        if refresh:
            known = await self._find_anew(name)
        elif known is None or not self._is_current(known):
            known = await self._handle_flights.run(
                (name, False), lambda: self._find(name, known, False)
            )
        if known.did is None:
            raise revive_error(known.error, name) or HandleNotFoundError(name)
        return Did(known.did)

    def _is_current(self, known: CachedHandle) -> bool:
        ttl = self._limits.handle_ttl if known.did else self._limits.negative_ttl
        return self._now() - known.checked_at < ttl

    async def _find_anew(self, handle: Handle) -> CachedHandle:
        """Return a result whose lookup began after this call."""
        since = self._now()
        while True:
            known = self._known.get(handle)
            if known is not None:
                if known.checked_at >= since:
                    return known
                # A lookup that began before this call is too old.
                due = known.checked_at + self._limits.handle_interval
                await asyncio.sleep(due - self._now())
            found = await self._handle_flights.run(
                (handle, True), lambda: self._find(handle, None, True)
            )
            if found.checked_at >= since:
                return found

    async def _find(
        self, handle: Handle, known: CachedHandle | None, refresh: bool
    ) -> CachedHandle:
        if not refresh and self._cache is not None:
            stored = await self._cache.load_handle(handle)
            if stored is not None and self._is_current(stored):
                self._known[handle] = stored
                return stored
            known = known or stored
        # The age of a result counts from the start of its lookup.
        asked_at = self._now()
        try:
            did = await self._handles.find(handle)
            found = CachedHandle(did, None, asked_at)
        except IdentityError as error:
            found = CachedHandle(None, type(error).__name__, asked_at)
        except NetworkError:
            # A domain that is away for a while does not cost a good handle.
            if refresh or known is None or known.did is None:
                raise
            if self._now() - known.checked_at > self._limits.stale_ttl:
                raise
            return known
        self._known[handle] = found
        if self._cache is not None:
            await self._cache.save_handle(handle, found)
        return found

    # Both ways.

    async def verify_handle(
        self, document: DidDocument, *, refresh: bool = False
    ) -> Handle | None:
        """Return the handle of an account if its domain points back, else None.

        Only the first handle of the document counts (specs/handle). With `refresh` a
        match may be a minute old, a mismatch is never older than the call. NetworkError
        if the domain could not be asked, which proves nothing.
        """
        if not document.handles:
            return None
        handle = document.handles[0]
        known = self._known.get(handle)
        if refresh and known is not None and known.did == document.did:
            refresh = self._now() - known.checked_at >= self._limits.refresh_interval
        try:
            did = await self.resolve_handle(handle, refresh=refresh)
        except (IdentityError, InvalidSyntaxError):
            return None
        return handle if did == document.did else None

    async def resolve_identity(self, identifier: str) -> tuple[DidDocument, Handle]:
        """Return document and verified handle of a DID or handle.

        Raises HandleMismatchError if the DID of a handle does not claim it. The handle
        of an account without a verified one is "handle.invalid".
        """
        if identifier.startswith("did:"):
            document = await self.resolve_did(identifier)
            handle = await self.verify_handle(document)
            return document, handle or INVALID_HANDLE
        asked = normalize_handle(identifier)
        document = await self.resolve_did(await self.resolve_handle(asked))
        if asked not in document.handles[:1]:
            raise HandleMismatchError(f"{document.did} does not claim {asked}")
        return document, asked


def _weigh(entry: _Entry) -> int:
    """Return the approximate bytes of an entry; hosts choose a document's length."""
    document = entry.document
    if document is None:
        return _ENTRY_BYTES
    return (
        _ENTRY_BYTES
        + sum(_TEXT_BYTES + len(handle) for handle in document.handles)
        + sum(
            4 * _TEXT_BYTES + len(one.id) + len(one.type) + len(one.endpoint)
            for one in document.services
        )
    )
