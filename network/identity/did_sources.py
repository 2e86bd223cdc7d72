"""Sources of DID documents: a PLC directory, a mirror of it, web hosts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Protocol

from network.errors import (
    BadDocumentError,
    BadResponseError,
    DidNotFoundError,
    DidTombstonedError,
    NetworkError,
    RateLimitedError,
    TooLargeError,
    UnreachableError,
    UnsupportedDidError,
)
from network.http.breaker import Breaker
from network.http.client import Fetcher
from network.http.responses import Fetched
from network.http.urls import is_hostname
from protocol.errors import InvalidSyntaxError
from protocol.syntax import Did, did_method, is_plc_did

MAX_DOCUMENT_BYTES: Final = 64_000
_WEB_PREFIX: Final = "did:web:"
_NOT_AVAILABLE: Final = "DID not available"
_DEV_WEB: Final = re.compile(
    r"((?:[a-z0-9-]{1,63}\.){0,3}localhost)(?:%3A([0-9]{1,5}))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class MirroredDocument:
    """The document of a DID in a mirror, as JSON; None if it was tombstoned."""

    document: Any | None


class DocumentMirror(Protocol):
    """A copy of the directory, proven operation by operation."""

    async def find(self, did: str) -> MirroredDocument | None:
        """Return None if the copy is too old or does not hold the DID."""
        ...


def did_web_url(did: Did, *, dev: bool) -> str:
    """Return the URL of a did:web document. Raises UnsupportedDidError.

    Accepts a bare host name only: no path, port, punycode or address (specs/did). In
    development also localhost, with a port, over http.
    """
    host = did.removeprefix(_WEB_PREFIX)
    if dev:
        match = _DEV_WEB.fullmatch(host)
        if match is not None:
            port = f":{match[2]}" if match[2] else ""
            return f"http://{match[1]}{port}/.well-known/did.json"
    if not is_hostname(host) or any(
        label.startswith("xn--") for label in host.split(".")
    ):
        raise UnsupportedDidError(f"{did} is not a did:web of a plain host name")
    return f"https://{host}/.well-known/did.json"


class DidSources:
    """The fetcher of documents: did:plc by directory or `mirror`, did:web by host."""

    def __init__(
        self,
        fetcher: Fetcher,
        plc_url: str,
        breaker: Breaker,
        *,
        dev: bool,
        mirror: DocumentMirror | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._plc_url = plc_url.rstrip("/")
        self._breaker = breaker
        self._dev = dev
        self._mirror = mirror

    def check(self, did: Did) -> None:
        """Check a DID before any request is made.

        Raises InvalidSyntaxError for a malformed did:plc, UnsupportedDidError for
        methods and forms that the network does not use.
        """
        method = did_method(did)
        if method == "plc":
            if not is_plc_did(did):
                raise InvalidSyntaxError(f"{did[:80]} is not a did:plc")
        elif method == "web":
            did_web_url(did, dev=self._dev)
        else:
            raise UnsupportedDidError(f"did:{method[:20]} is not in use")

    async def fetch(self, did: Did, *, direct: bool = False) -> Any:
        """Return the JSON of the document. Raises IdentityError and NetworkError.

        `direct` skips the mirror, which may be seconds behind its source.
        """
        if did_method(did) == "plc":
            if self._mirror is not None and not direct:
                found = await self._mirror.find(did)
                if found is not None:
                    if found.document is None:
                        raise DidTombstonedError(f"{did} is tombstoned")
                    return found.document
            return await self._fetch_from_plc(did)
        return await self._fetch_document(did, did_web_url(did, dev=self._dev))

    async def _fetch_from_plc(self, did: Did) -> Any:
        if not self._breaker.may_call():
            raise UnreachableError("the PLC directory fails; no request for a while")
        try:
            document = await self._fetch_document(did, f"{self._plc_url}/{did}")
        except RateLimitedError:
            raise  # a directory that limits its rate works
        except NetworkError:
            self._breaker.failed()
            raise
        except (DidNotFoundError, BadDocumentError):
            self._breaker.succeeded()
            raise
        self._breaker.succeeded()
        return document

    async def _fetch_document(self, did: Did, url: str) -> Any:
        try:
            fetched = await self._fetcher.get(url, max_bytes=MAX_DOCUMENT_BYTES)
        except TooLargeError as error:
            raise BadDocumentError(f"{did}: {error}") from error
        if fetched.status == 410 or _is_tombstoned(did, fetched):
            raise DidTombstonedError(f"{did} is tombstoned")
        if fetched.status in (400, 404):
            raise DidNotFoundError(f"{did} was not found ({fetched.status})")
        # A source that denies access proves nothing about the DID.
        if fetched.status != 200:
            raise BadResponseError(f"{url} answered {fetched.status}", fetched.status)
        try:
            return fetched.json()
        except BadResponseError as error:
            raise BadDocumentError(f"{did}: {error}") from error


def _is_tombstoned(did: Did, fetched: Fetched) -> bool:
    """Return True for a 404 of a directory whose message names a tombstone."""
    if fetched.status != 404 or not is_plc_did(did):
        return False
    try:
        answer = fetched.json()
    except BadResponseError:
        return False
    words = answer.get("message") if isinstance(answer, dict) else None
    return isinstance(words, str) and words.startswith(_NOT_AVAILABLE)
