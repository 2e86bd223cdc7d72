"""Sources of the DID of a handle: DNS TXT, then a well-known file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from network.errors import (
    BadResponseError,
    HandleMismatchError,
    HandleNotFoundError,
    NetworkError,
    TooLargeError,
)
from network.http.client import Fetcher
from network.http.dns import TxtLookup
from network.http.policy import MAX_REDIRECTS
from protocol.syntax import Did, Handle, is_did

MAX_WELL_KNOWN_BYTES: Final = 2_048
_WELL_KNOWN: Final = "/.well-known/atproto-did"
_NO_FILE: Final = frozenset((400, 404, 410))
_TXT_PREFIX: Final = "did="
_DNS_LABEL: Final = "_atproto."
_TEST_DOMAIN: Final = ".test"


class HandleSources:
    """The two ways to resolve a handle (specs/handle), and one for development.

    `dev_pds` are base URLs of servers on this machine. They resolve handles below
    `.test`, which no DNS knows, by their `Host` header.
    """

    def __init__(
        self, fetcher: Fetcher, txt: TxtLookup, dev_pds: Sequence[str] = ()
    ) -> None:
        self._fetcher = fetcher
        self._txt = txt
        self._dev_pds = [url.rstrip("/") for url in dev_pds]

    async def find(self, handle: Handle) -> Did:
        """Return the DID that the domain names.

        Raises HandleNotFoundError if it names none, HandleMismatchError if it names
        several, NetworkError if it could not be asked.
        """
        if handle.endswith(_TEST_DOMAIN):
            return await self._find_in_development(handle)
        try:
            did = await self._find_in_dns(handle)
        except NetworkError:
            # The file may name a DID; its absence proves nothing without DNS.
            did = await self._find_on_web(handle)
            if did is None:
                raise
            return did
        did = did or await self._find_on_web(handle)
        if did is None:
            raise HandleNotFoundError(f"{handle} names no DID")
        return did

    async def _find_in_dns(self, handle: Handle) -> Did | None:
        if len(_DNS_LABEL) + len(handle) > 253:
            return None
        values = await self._txt(_DNS_LABEL + handle)
        named = {
            value.removeprefix(_TXT_PREFIX)
            for value in values
            if value.startswith(_TXT_PREFIX)
        }
        if len(named) > 1:
            raise HandleMismatchError(f"{handle} names several DIDs in DNS")
        text = next(iter(named), "")
        return Did(text) if is_did(text) else None

    async def _find_on_web(self, handle: Handle) -> Did | None:
        return await self._read_well_known(
            f"https://{handle}{_WELL_KNOWN}", {}, redirects=MAX_REDIRECTS
        )

    async def _find_in_development(self, handle: Handle) -> Did:
        for url in self._dev_pds:
            did = await self._read_well_known(
                url + _WELL_KNOWN, {"Host": handle}, redirects=0
            )
            if did is not None:
                return did
        raise HandleNotFoundError(f"no server of the test network knows {handle}")

    async def _read_well_known(
        self, url: str, headers: dict[str, str], *, redirects: int
    ) -> Did | None:
        try:
            fetched = await self._fetcher.get(
                url,
                max_bytes=MAX_WELL_KNOWN_BYTES,
                headers=headers,
                redirects=redirects,
            )
        except TooLargeError:
            return None  # a web page, not the file
        if fetched.status in _NO_FILE:
            return None
        if fetched.status != 200:
            # A server that fails or denies access proves nothing about a handle.
            raise BadResponseError(f"{url} answered {fetched.status}", fetched.status)
        text = fetched.body.decode("utf-8", "replace").strip()
        return Did(text) if is_did(text) else None
