"""Plain HTTP requests, so that little more than the server is timed."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from bench.index import LostError

_PATIENCE_S: Final = 30.0
_BUSY: Final = http.client.SERVICE_UNAVAILABLE


class BusyError(LostError):
    """A 503: the provider gave up, and may be asked again."""


def connect(url: str) -> http.client.HTTPConnection:
    """Open a connection that is kept alive; the caller closes it."""
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=_PATIENCE_S)


def target(nsid: str, params: Mapping[str, Any]) -> str:
    """Return the request target of a query method."""
    return f"/xrpc/{nsid}?{urlencode(params, doseq=True)}"


def get(
    connection: http.client.HTTPConnection,
    target: str,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return the body of a reply.

    Raises BusyError for the status 503, LostError for any other but 200.
    """
    connection.request("GET", target, headers=dict(headers or {}))
    response = connection.getresponse()
    body = response.read()
    if response.status != http.client.OK:
        kind = BusyError if response.status == _BUSY else LostError
        raise kind(f"{target}: {response.status} {body[:200]!r}")
    return body
