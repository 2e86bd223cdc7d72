"""Calls of XRPC methods: queries and procedures over HTTP, streams over WebSockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar
from urllib.parse import urlencode, urlsplit, urlunsplit

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

_JSON_MESSAGES: Final = "xrpc.v1.json"
_MAX_MESSAGE: Final = 5_000_000

_P = ParamSpec("_P")
_T = TypeVar("_T")


class XrpcError(Exception):
    """A refusal. `error` is its name in the lexicon, `status` the HTTP status.

    The status is 0 for a stream that the server ends with an error.
    """

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(f"{error}: {message}" if message else error)
        self.status = status
        self.error = error
        self.message = message


class Transport:
    """Connections to one server; close it, or use it in a `with` statement.

    service: URL of the provider, or of the user's PDS.
    token: access token of the PDS, or service token of the provider.
    proxy: service that the PDS forwards to, such as did:web:example.com#bsky_appview.
    headers: more headers of each request, such as Accept-Language.
    timeout: seconds for a connection, and for each read.
    """

    def __init__(
        self,
        service: str,
        *,
        token: str | None = None,
        proxy: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> None:
        headers = {"Accept": "application/json", **(headers or {})}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if proxy is not None:
            headers["atproto-proxy"] = proxy
        self._service = service.rstrip("/")
        self._timeout = timeout
        self._http = httpx.Client(
            base_url=self._service, headers=headers, timeout=timeout
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def query(self, nsid: str, params: Mapping[str, Any]) -> Any:
        """Return the reply of a query. Raises XrpcError, httpx.HTTPError."""
        reply = self._http.get(f"/xrpc/{nsid}", params=tuple(_parameters(params)))
        return _read_reply(reply)

    def procedure(self, nsid: str, body: Mapping[str, Any]) -> Any:
        """Return the reply of a procedure, or None if it has none.

        Raises XrpcError, httpx.HTTPError.
        """
        given = {name: value for name, value in body.items() if value is not None}
        reply = self._http.post(f"/xrpc/{nsid}", json=given or None)
        return _read_reply(reply)

    def subscribe(self, nsid: str, params: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the messages of a stream until the server or the caller ends it.

        Raises XrpcError, and OSError if there is no connection.
        """
        parts = urlsplit(f"{self._service}/xrpc/{nsid}")
        scheme = "wss" if parts.scheme == "https" else "ws"
        query = urlencode(_parameters(params))
        url = urlunsplit((scheme, parts.netloc, parts.path, query, ""))
        try:
            stream = connect(
                url,
                subprotocols=[_JSON_MESSAGES],  # type: ignore[list-item]
                open_timeout=self._timeout,
                max_size=_MAX_MESSAGE,
            )
        except InvalidStatus as refused:
            raise _error(refused.response.status_code, refused.response.body) from None
        with stream:
            try:
                for message in stream:
                    yield _read_message(message)
            except ConnectionClosed:
                return


def read_pages(
    call: Callable[_P, _T], *args: _P.args, **params: _P.kwargs
) -> Iterator[_T]:
    """Yield the pages of a query with a cursor, to the end.

    `for page in read_pages(client.link.get_backlinks, subject=did): ...`
    """
    cursor: str | None = None
    while True:
        page: Any = call(*args, **(params | {"cursor": cursor}))  # type: ignore[arg-type]
        yield page
        if not page.get("cursor") or page["cursor"] == cursor:
            return
        cursor = page["cursor"]


def _parameters(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = []
    for name, value in params.items():
        values = value if isinstance(value, list | tuple) else [value]
        pairs += [(name, _text(item)) for item in values if item is not None]
    return pairs


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read_reply(reply: httpx.Response) -> Any:
    if reply.is_error:
        raise _error(reply.status_code, reply.content)
    if not reply.content:
        return None
    try:
        return reply.json()
    except ValueError:
        raise XrpcError(reply.status_code, "InvalidResponse", "no JSON") from None


def _read_message(message: str | bytes) -> Any:
    value = json.loads(message)
    if "error" in value:
        raise XrpcError(0, value["error"], value.get("message", ""))
    return value


def _error(status: int, body: bytes | bytearray | None) -> XrpcError:
    try:
        value = json.loads(body or b"")
        return XrpcError(status, str(value["error"]), str(value.get("message", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        # A server in between has no names of errors.
        return XrpcError(status, f"HTTP{status}", "")
