"""HTTP with an OpenSearch cluster: bounded calls, bulk writes, errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import httpx

from search.engines.contract import ServerError

MIN_VERSION: Final = 2
MAX_REPLY_BYTES: Final = 64_000_000
MAX_BULK_BYTES: Final = 8_000_000
_CONNECTIONS: Final = 16
_SERVE_S: Final = 3.0
_WRITE_S: Final = 120.0


class OpenSearchError(ServerError):
    """An error reply; `code` is its type, such as `index_not_found_exception`."""


class OpenSearchClient:
    """Calls of one cluster. Threads may share it."""

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        transport: httpx.BaseTransport | None = None,
        serve_s: float = _SERVE_S,
    ) -> None:
        user, _, password = key.partition(":")
        self._http = httpx.Client(
            base_url=url.rstrip("/"),
            auth=httpx.BasicAuth(user, password) if key else None,
            timeout=serve_s,
            limits=httpx.Limits(
                max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS
            ),
            trust_env=False,
            transport=transport,
        )
        self._serve_s = serve_s

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def version(self) -> str:
        """Return the version. Raises OpenSearchError if it is too old or another."""
        found = self.call("GET", "/").get("version", {})
        number = str(found.get("number", ""))
        major = number.split(".")[0]
        if found.get("distribution") != "opensearch" or not major.isdigit():
            raise OpenSearchError("the server is not an OpenSearch", "wrong_server")
        if int(major) < MIN_VERSION:
            raise OpenSearchError(
                f"OpenSearch {number} is too old; run {MIN_VERSION}.0 or newer",
                "version_too_old",
            )
        return number

    def search(
        self, index: str, body: Mapping[str, Any], *, routing: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return the `hits` of a search; partial results are an error."""
        suffix = f"?routing={','.join(routing)}" if routing else ""
        reply = self.call("POST", f"/{index}/_search{suffix}", body)
        if reply.get("timed_out") or reply.get("_shards", {}).get("failed"):
            raise OpenSearchError("OpenSearch answered for some shards only", "partial")
        return dict(reply["hits"])

    def count(self, index: str) -> int:
        """Return the number of documents."""
        return int(self.call("GET", f"/{index}/_count")["count"])

    def bulk(self, lines: Sequence[tuple[Mapping[str, Any], Any]]) -> None:
        """Carry out actions, each with its document or None, until they are found.

        Raises OpenSearchError if one fails; deletes of unknown documents do not.
        """
        for body in _bodies(lines):
            reply = self.call("POST", "/_bulk?refresh=wait_for", body, timeout=_WRITE_S)
            for item in reply["items"] if reply["errors"] else ():
                [(action, result)] = item.items()
                error = result.get("error")
                if error and not (action == "delete" and result["status"] == 404):
                    raise _error_of({"error": error}, result["status"])

    def call(
        self, method: str, path: str, body: Any = None, *, timeout: float | None = None
    ) -> Any:
        """Return the JSON of a call. Raises OpenSearchError."""
        content = body if isinstance(body, bytes) else None
        headers = {"Content-Type": "application/x-ndjson"} if content else None
        try:
            with self._http.stream(
                method,
                path,
                content=content,
                json=None if isinstance(body, bytes) else body,
                headers=headers,
                timeout=self._serve_s if timeout is None else timeout,
            ) as response:
                data = bytearray()
                for piece in response.iter_bytes():
                    data += piece
                    if len(data) > MAX_REPLY_BYTES:
                        raise OpenSearchError(
                            f"the reply is over {MAX_REPLY_BYTES} bytes"
                        )
            reply = json.loads(data)
        except httpx.TimeoutException:
            raise OpenSearchError(
                "OpenSearch does not answer in time", "timeout"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OpenSearchError(
                f"OpenSearch: {type(error).__name__}", "connection"
            ) from None
        except ValueError:
            raise OpenSearchError(
                f"OpenSearch answered {response.status_code} without JSON"
            ) from None
        if response.status_code >= 400:
            raise _error_of(reply, response.status_code)
        return reply


def _error_of(reply: Any, status: int) -> OpenSearchError:
    error = reply.get("error") if isinstance(reply, dict) else None
    fields = error if isinstance(error, dict) else {}
    reason = str(fields.get("reason", error or "no reason given"))[:500]
    return OpenSearchError(
        f"OpenSearch {status}: {reason}", str(fields.get("type", ""))
    )


def _bodies(lines: Sequence[tuple[Mapping[str, Any], Any]]) -> Iterator[bytes]:
    body = bytearray()
    for action, document in lines:
        piece = json.dumps(action).encode() + b"\n"
        if document is not None:
            piece += json.dumps(document, ensure_ascii=False).encode() + b"\n"
        if body and len(body) + len(piece) > MAX_BULK_BYTES:
            yield bytes(body)
            body.clear()
        body += piece
    if body:
        yield bytes(body)
