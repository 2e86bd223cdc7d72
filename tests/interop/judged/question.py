"""Questions, and the servers that they are asked of."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.parse
from dataclasses import dataclass
from typing import IO, Any, Final

from protocol.identity.keys import PrivateKey
from protocol.identity.service_auth import create_service_jwt
from protocol.syntax import Did, Nsid

MAX_PAGES: Final = 100
PATIENCE: Final = 30
"""Maximum seconds of one response, on a busy machine."""
HEADERS: Final = ("atproto-repo-rev", "atproto-content-labelers")
"""Headers that are compared like fields of the response."""


@dataclass(frozen=True)
class Question:
    """A query; with `pages` naming a list, it is read to the last page.

    With a `body` of JSON it is a procedure. The answer's `id` is remembered under the
    name `keeps`, and stands in a later body for `{name}`.
    """

    nsid: str
    params: tuple[tuple[str, Any], ...] = ()
    viewer: str = ""
    pages: str = ""
    body: str = ""
    keeps: str = ""
    labelers: str | None = None

    def __str__(self) -> str:
        query = " ".join(f"{key}={short(value, 120)}" for key, value in self.params)
        labelers = f" with {self.labelers!r}" if self.labelers is not None else ""
        body = f"{query} {self.body}".strip()
        return f"{self.nsid} {body} as {self.viewer or 'nobody'}{labelers}"


class Server:
    """One indexer: its origin, and the audience of its tokens.

    Its responses are written to `record`, one line of JSON each.
    """

    def __init__(self, url: str, did: str, keys: dict[str, str]) -> None:
        parts = urllib.parse.urlsplit(url)
        self.url = url
        self.record: IO[str] | None = None
        self._address = (parts.hostname or "", parts.port or 80)
        self._did = did
        self._keys: dict[str, PrivateKey] = {}
        self.add_keys(keys)
        self._kept: dict[str, str] = {}
        self._local = threading.local()
        self._opened: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def add_keys(self, keys: dict[str, str]) -> None:
        """Add signing keys of accounts, in hex by DID."""
        for who, key in keys.items():
            self._keys[who] = PrivateKey.from_bytes("k256", bytes.fromhex(key))

    def ask(self, question: Question, cursor: str = "") -> tuple[int, Any]:
        """Return status and JSON of one page, or of a procedure."""
        params = [*question.params, *([("cursor", cursor)] if cursor else [])]
        path = f"/xrpc/{question.nsid}?{urllib.parse.urlencode(params, doseq=True)}"
        headers = {}
        if question.viewer:
            headers["authorization"] = f"Bearer {self._token(question)}"
        if question.labelers is not None:
            headers["atproto-accept-labelers"] = question.labelers
        data = question.body
        for name, value in self._kept.items():
            data = data.replace(f"{{{name}}}", value)
        if data:
            headers["content-type"] = "application/json"
        try:
            status, body, replied = self._send(path, data.encode(), headers)
        except TimeoutError:
            return 0, {"error": f"no answer within {PATIENCE} s"}
        answer = json.loads(body) if body else {}
        if status == 200:
            if question.keeps:
                self._kept[question.keeps] = answer["id"]
            self._write(question.nsid, answer)
            answer |= {f"header {h}": replied[h] for h in HEADERS if h in replied}
        return status, answer

    def _send(
        self, path: str, data: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes, dict[str, str]]:
        """Send one request, again on a new connection if the held one was closed."""
        connection = getattr(self._local, "connection", None)
        self._local.connection = None
        for last in (False, True):
            if connection is None:
                connection = http.client.HTTPConnection(
                    *self._address, timeout=PATIENCE
                )
                self._opened.append(connection)
            try:
                method = "POST" if data else "GET"
                connection.request(method, path, data or None, headers)
                answer = connection.getresponse()
                body = answer.read()
                break
            except TimeoutError:
                connection.close()
                raise
            except (http.client.HTTPException, ConnectionError):
                connection.close()
                connection = None
                if last:
                    raise
        self._local.connection = connection
        replied = {key.lower(): value for key, value in answer.getheaders()}
        return answer.status, body, replied

    def _write(self, nsid: str, answer: Any) -> None:
        if self.record is not None:
            line = json.dumps({"nsid": nsid, "body": answer}, ensure_ascii=False)
            with self._lock:
                self.record.write(line + "\n")

    def read(self, question: Question) -> tuple[int, Any]:
        """Return status and JSON; lists of several pages are joined."""
        status, answer = self.ask(question)
        if not question.pages or status != 200:
            return status, answer
        items, pages, empty = list(answer[question.pages]), 1, 0
        page = answer
        while page.get("cursor") and pages < MAX_PAGES:
            empty += not page[question.pages]
            status, page = self.ask(question, page["cursor"])
            if status != 200:
                return status, page
            items += page[question.pages]
            pages += 1
        rest = {k: v for k, v in answer.items() if k != "cursor"}
        # Not a field of any response: counts empty pages before the last.
        marks = {"emptyPages": empty} if empty else {}
        return 200, {**rest, **marks, question.pages: items}

    def close(self) -> None:
        """Close the connections of threads that have ended."""
        while self._opened:
            self._opened.pop().close()

    def _token(self, question: Question) -> str:
        return create_service_jwt(
            iss=Did(question.viewer),
            aud=self._did,
            lxm=Nsid(question.nsid),
            key=self._keys[question.viewer],
            now=int(time.time()),
        )


def short(value: Any, most: int = 400) -> str:
    """Return a value as JSON, cut to `most` characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < most else text[:most] + "…"
