"""HTTP with a Meilisearch server: bounded calls, tasks, errors.

Settings, indexes and tasks go through the official package. Searches and documents go
through `httpx`: connections are kept, bodies compressed, and replies bounded.
"""

from __future__ import annotations

import gzip
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import httpx
import meilisearch
from meilisearch.errors import MeilisearchApiError, MeilisearchError
from meilisearch.models.task import Task

from search.engines.contract import EngineUnavailableError, ServerError

MIN_VERSION: Final = (1, 46)
MAX_REPLY_BYTES: Final = 64_000_000
MAX_BATCH_BYTES: Final = 8_000_000
"""Longest body of documents before compression."""
MAX_BATCH_DOCUMENTS: Final = 5_000
_CONNECTIONS: Final = 16
_SERVE_S: Final = 3.0
_WRITE_S: Final = 120.0
_TASK_S: Final = 900.0
_FIRST_POLL_S: Final = 0.01
_LAST_POLL_S: Final = 0.5
_WAITING: Final = "enqueued,processing"
_LISTED: Final = 100
MAX_ENQUEUED: Final = 64
"""Waiting tasks of the server over which we send no more documents."""

T = TypeVar("T")


class MeiliError(ServerError):
    """An error reply; `code` is the server's, such as `index_not_found`."""


class TaskFailedError(MeiliError):
    """The server accepted a task and failed to carry it out."""


class MeiliClient:
    """Calls of one server. Threads may share it."""

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        serve_s: float = _SERVE_S,
        task_s: float = _TASK_S,
    ) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._sleep = sleep
        self._serve_s = serve_s
        self._task_s = task_s
        self._http = httpx.Client(
            base_url=self._url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=serve_s,
            limits=httpx.Limits(
                max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS
            ),
            trust_env=False,
            transport=transport,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def version(self) -> str:
        """Return the version of the server. Raises MeiliError if it is too old."""
        version = str(self._official(lambda c: c.get_version())["pkgVersion"])
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        if numbers < MIN_VERSION:
            needed = ".".join(map(str, MIN_VERSION))
            raise MeiliError(
                f"Meilisearch {version} is too old; run {needed} or newer",
                "version_too_old",
            )
        return version

    def healthy(self) -> bool:
        """Return True if the server answers and says that it is available."""
        try:
            reply: Any = self._call("GET", "/health")
        except EngineUnavailableError:
            return False
        return isinstance(reply, dict) and reply.get("status") == "available"

    def search(self, queries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Run searches in one request; return their results in order."""
        reply = self._call("POST", "/multi-search", {"queries": queries})
        return list(reply["results"])

    def fetch(self, index: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return stored documents (`ids`, `filter`, `sort`, `limit`, `fields`)."""
        path = f"/indexes/{index}/documents/fetch"
        return list(self._call("POST", path, body, timeout=_WRITE_S)["results"])

    def count(self, index: str) -> int:
        """Return the number of documents of an index."""
        reply = self._call("GET", f"/indexes/{index}/stats")
        return int(reply["numberOfDocuments"])

    def indexes(self, prefix: str) -> list[str]:
        """Return the names of the indexes that begin with `prefix`."""
        names: list[str] = []
        while True:
            reply = self._call(
                "GET", f"/indexes?limit={_LISTED}&offset={len(names)}", timeout=_WRITE_S
            )
            names += [one["uid"] for one in reply["results"]]
            if len(reply["results"]) < _LISTED:
                return [name for name in names if name.startswith(prefix)]

    def create(self, index: str, settings: Mapping[str, Any]) -> None:
        """Create an index with its settings, before it has documents."""
        made = self._official(
            lambda c: c.create_index(index, {"primaryKey": "id"}).task_uid
        )
        self.wait([made], accept=("index_already_exists",))
        changed = self._official(
            lambda c: c.index(index).update_settings(dict(settings)).task_uid
        )
        self.wait([changed])

    def drop(self, index: str) -> None:
        """Delete an index; an unknown one is no error."""
        gone = self._official(lambda c: c.delete_index(index).task_uid)
        self.wait([gone], accept=("index_not_found",))

    def put(self, index: str, documents: Sequence[Mapping[str, Any]]) -> list[int]:
        """Send documents in bounded batches; return the tasks."""
        return [
            self._write(
                f"/indexes/{index}/documents",
                gzip.compress(body, 1),
                {
                    "Content-Type": "application/x-ndjson",
                    "Content-Encoding": "gzip",
                },
            )
            for body in _batches(documents)
        ]

    def delete(self, index: str, ids: Sequence[str]) -> list[int]:
        """Delete documents by ID; return the tasks."""
        return [
            self._write(
                f"/indexes/{index}/documents/delete-batch",
                json.dumps(ids[i : i + MAX_BATCH_DOCUMENTS]).encode(),
                {"Content-Type": "application/json"},
            )
            for i in range(0, len(ids), MAX_BATCH_DOCUMENTS)
        ]

    def wait(self, tasks: Sequence[int], accept: Sequence[str] = ()) -> None:
        """Wait until tasks have ended.

        Raises TaskFailedError, unless the code of the failure is in `accept`.
        """
        deadline = time.monotonic() + self._task_s
        for number in tasks:
            pause = _FIRST_POLL_S
            while True:
                task = self._task(number)
                if task.status == "succeeded":
                    break
                if task.status in ("failed", "canceled"):
                    error = task.error or {}
                    if error.get("code") in accept:
                        break
                    raise TaskFailedError(
                        f"Meilisearch task {number} {task.status}: "
                        f"{error.get('message', 'no reason given')}"[:500],
                        str(error.get("code", "")),
                    )
                if time.monotonic() > deadline:
                    raise MeiliError(
                        f"Meilisearch task {number} is {task.status} after "
                        f"{self._task_s:.0f} s",
                        "task_timeout",
                    )
                self._sleep(pause)
                pause = min(pause * 1.5, _LAST_POLL_S)

    def _task(self, number: int) -> Task:
        return self._official(lambda c: c.get_task(number))

    def enqueued(self) -> int:
        """Return the number of tasks that wait at the server."""
        reply = self._official(
            lambda c: c.get_tasks({"statuses": _WAITING, "limit": 1})
        )
        return int(reply.total)

    def wait_for_room(self) -> None:
        """Wait while the server has many waiting tasks, ours or others'."""
        deadline = time.monotonic() + self._task_s
        while (waiting := self.enqueued()) > MAX_ENQUEUED:
            if time.monotonic() > deadline:
                raise MeiliError(f"{waiting} tasks wait at Meilisearch", "queue_full")
            self._sleep(_LAST_POLL_S)

    def _write(self, path: str, body: bytes, headers: Mapping[str, str]) -> int:
        reply = self._call("POST", path, body, headers=headers, timeout=_WRITE_S)
        return int(reply["taskUid"])

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        content = body if isinstance(body, bytes) else None
        with (
            _translated(),
            self._http.stream(
                method,
                path,
                content=content,
                json=None if isinstance(body, bytes) else body,
                headers=headers,
                timeout=self._serve_s if timeout is None else timeout,
            ) as response,
        ):
            data = bytearray()
            for piece in response.iter_bytes():
                data += piece
                if len(data) > MAX_REPLY_BYTES:
                    raise MeiliError(f"the reply is over {MAX_REPLY_BYTES} bytes")
        try:
            reply = json.loads(data)
        except ValueError:
            raise MeiliError(
                f"Meilisearch answered {response.status_code} without JSON"
            ) from None
        if response.status_code >= 400:
            raise _error_of(reply, response.status_code)
        return reply

    def _official(self, call: Callable[[meilisearch.Client], T]) -> T:
        # The package keeps headers of the last call: a client for each call.
        client = meilisearch.Client(self._url, self._key or None, timeout=int(_WRITE_S))
        with _translated(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return call(client)


@contextmanager
def _translated() -> Iterator[None]:
    """Raise errors of both HTTP libraries as MeiliError, without headers or keys."""
    try:
        yield
    except httpx.TimeoutException:
        raise MeiliError("Meilisearch does not answer in time", "timeout") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise MeiliError(f"Meilisearch: {type(error).__name__}", "connection") from None
    except MeilisearchApiError as error:
        message = f"Meilisearch: {error.message}"[:500]
        raise MeiliError(message, error.code or "") from None
    except (MeilisearchError, OSError, ValueError) as error:
        raise MeiliError(f"Meilisearch: {type(error).__name__}", "connection") from None


def _error_of(reply: Any, status: int) -> MeiliError:
    fields = reply if isinstance(reply, dict) else {}
    message = str(fields.get("message", "no reason given"))[:500]
    return MeiliError(f"Meilisearch {status}: {message}", str(fields.get("code", "")))


def _batches(documents: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
    lines: list[bytes] = []
    size = 0
    for document in documents:
        line = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        full = len(lines) >= MAX_BATCH_DOCUMENTS or size + len(line) > MAX_BATCH_BYTES
        if lines and full:
            yield b"\n".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 1
    if lines:
        yield b"\n".join(lines)
