"""A client for XRPC methods of other servers (specs/xrpc)."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypedDict, Unpack
from urllib.parse import urlencode

from network.errors import BadResponseError, XrpcError
from network.http.client import Fetcher, Headers
from network.http.responses import Fetched, Streamed
from network.xrpc.reply import encode_json
from protocol.data import json_form
from protocol.errors import ProtocolError

JSON: Final = "application/json"
MAX_CAR_BYTES: Final = 4 * 2**30
_MAX_TEXT: Final = 1_000

Token: TypeAlias = str | Callable[[str], str | Awaitable[str]]
Params: TypeAlias = Mapping[str, Any]


class CallOptions(TypedDict, total=False):
    """Options of a call: further headers, the cap of the body, seconds in all."""

    headers: Headers | None
    max_bytes: int
    timeout: float | None


class XrpcClient:
    """The methods of one host.

    `host` is its base URL ("https://pds.example.com"). `auth` is a bearer token, or a
    function that makes one for a method's NSID (sync or async).
    """

    def __init__(self, fetcher: Fetcher, host: str, auth: Token | None = None) -> None:
        self._fetcher = fetcher
        self._host = host.rstrip("/")
        self._auth = auth

    async def query(
        self, nsid: str, params: Params | None = None, **options: Unpack[CallOptions]
    ) -> Any:
        """Return the JSON response of a query. Raises XrpcError and NetworkError."""
        return _read_json(nsid, await self._get(nsid, params, options))

    async def query_bytes(
        self, nsid: str, params: Params | None = None, **options: Unpack[CallOptions]
    ) -> bytes:
        """Return the body of a query that does not return JSON."""
        fetched = await self._get(nsid, params, options)
        if fetched.status != 200:
            raise read_error(nsid, fetched.status, fetched.body)
        return fetched.body

    @asynccontextmanager
    async def download(
        self, nsid: str, params: Params | None = None, *, max_bytes: int = MAX_CAR_BYTES
    ) -> AsyncIterator[Streamed]:
        """Yield the body of a query in chunks: `async for chunk in body`."""
        try:
            async with self._fetcher.stream(
                self._url(nsid, params),
                headers=await self._headers(nsid, None),
                max_bytes=max_bytes,
            ) as body:
                yield body
        except BadResponseError as error:
            if error.status == 200:
                raise
            raise read_error(nsid, error.status, error.body) from error

    async def procedure(
        self,
        nsid: str,
        input: Any = None,
        *,
        params: Params | None = None,
        encoding: str = JSON,
        **options: Unpack[CallOptions],
    ) -> Any:
        """Return the JSON response of a procedure, None if it is empty.

        `input` is a JSON value, or bytes of the media type `encoding`, or None.
        """
        sent = dict(await self._headers(nsid, options.get("headers")))
        body = b""
        if input is not None:
            body = input if isinstance(input, bytes) else encode_json(input)
            sent["Content-Type"] = encoding
        url = self._url(nsid, params)
        options["headers"] = sent
        fetched = await self._fetcher.post(url, body=body, **options)
        return _read_json(nsid, fetched)

    async def _get(
        self, nsid: str, params: Params | None, options: CallOptions
    ) -> Fetched:
        options["headers"] = await self._headers(nsid, options.get("headers"))
        return await self._fetcher.get(self._url(nsid, params), **options)

    def _url(self, nsid: str, params: Params | None) -> str:
        query = encode_params(params or {})
        return f"{self._host}/xrpc/{nsid}" + (f"?{query}" if query else "")

    async def _headers(self, nsid: str, headers: Headers | None) -> Headers:
        if self._auth is None:
            return headers or {}
        token = self._auth if isinstance(self._auth, str) else self._auth(nsid)
        if inspect.isawaitable(token):
            token = await token
        return {**(headers or {}), "Authorization": f"Bearer {token}"}


def encode_params(params: Params) -> str:
    """Return the query string; arrays as repeated names, None left out."""
    pairs: list[tuple[str, str]] = []
    for name, value in params.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        pairs += [(name, _text(item)) for item in values if item is not None]
    return urlencode(pairs)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _read_json(nsid: str, fetched: Fetched) -> Any:
    if fetched.status != 200:
        raise read_error(nsid, fetched.status, fetched.body)
    return fetched.json() if fetched.body else None


def read_error(nsid: str, status: int, body: bytes) -> XrpcError | BadResponseError:
    """Return the exception for an error response: an XrpcError if it has a name."""
    try:
        value = json_form.loads(body)
    except ProtocolError:
        value = None
    if isinstance(value, dict) and isinstance(value.get("error"), str):
        message = value.get("message")
        return XrpcError(
            value["error"][:_MAX_TEXT],
            message[:_MAX_TEXT] if isinstance(message, str) else "",
            status,
        )
    return BadResponseError(f"{nsid} answered {status}", status, body)
