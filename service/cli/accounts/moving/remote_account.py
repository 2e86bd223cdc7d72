"""One account at one server: signs in again, waits for limits, sends files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from service.cli.feeds.pds_session import RefusedError, check_address
from service.operator_errors import ServiceError

SERVER: Final = "com.atproto.server"
_TIMEOUT_S: Final = 300.0
_MAX_REPLY_BYTES: Final = 8_000_000
_CHUNK_BYTES: Final = 1_000_000
_MAX_TRIES: Final = 5
_MAX_WAIT_S: Final = 900.0
_EPOCH_S: Final = 1_000_000_000
_OUTAGES: Final = frozenset({502, 503, 504})
_EXPIRED: Final = frozenset({"ExpiredToken", "InvalidToken"})

AskCode = Callable[[str], str]
"""Ask the owner for a code that a server has mailed."""


class LimitReachedError(ServiceError):
    """A server allows no more requests for longer than a command waits."""


@dataclass(slots=True)
class RemoteAccount:
    """An account at a server; `password` is sent there only. Raises ServiceError."""

    url: str
    did: str
    password: str = field(repr=False)
    ask_code: AskCode = field(repr=False)
    _token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_address(self.url)
        self.url = self.url.rstrip("/")

    def sign_in(self) -> None:
        """Open a session; ask for the code of a second factor if there is one."""
        body = {"identifier": self.did, "password": self.password}
        try:
            session = self._post(f"{SERVER}.createSession", body)
        except RefusedError as error:
            if error.name != "AuthFactorTokenRequired":
                raise
            body["authFactorToken"] = self.ask_code(f"Sign-in code from {self.url}")
            session = self._post(f"{SERVER}.createSession", body)
        self._token = str(session["accessJwt"])

    def try_sign_in(self) -> bool:
        """Open a session; return False for an unknown account or password."""
        try:
            self.sign_in()
        except RefusedError as error:
            if error.name in ("AuthenticationRequired", "AuthRequired"):
                return False
            raise
        return True

    def create(self, token: str, fields: Mapping[str, Any]) -> None:
        """Open the account here by a service token of its own key."""
        body = {"did": self.did, "password": self.password, **fields}
        session = self._post(f"{SERVER}.createAccount", body, token)
        if session.get("did") != self.did:
            raise ServiceError(f"{self.url} opened another account: {session}")
        self._token = str(session["accessJwt"])

    def query(self, nsid: str, **params: str) -> Any:
        """Return the reply of a query."""
        return self._repeat("GET", nsid, params=params)

    def call(self, nsid: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the reply of a procedure."""
        return self._repeat("POST", nsid, json=body)

    def send_file(self, nsid: str, path: Path, mime: str) -> Any:
        """Return the reply of a procedure whose input is a file."""
        return self._repeat("POST", nsid, file=path, mime=mime)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.query(f"{SERVER}.checkAccountStatus")
        return found

    def _post(
        self, nsid: str, body: Mapping[str, Any], token: str | None = None
    ) -> Any:
        return self._repeat("POST", nsid, json=body, token=token, signed=False)

    def _repeat(self, method: str, nsid: str, **more: Any) -> Any:
        """Send a request again after an outage, a limit, or an expired session."""
        signed = more.pop("signed", True)
        for left in reversed(range(_MAX_TRIES)):
            token = self._token if signed else more.get("token")
            try:
                reply = self._send(method, nsid, more, token)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                if left == 0 or not signed:
                    raise ServiceError(f"{self.url} does not answer: {error}") from None
                time.sleep(_pause(left))
                continue
            body = _parse(reply)
            if reply.is_success:
                return body
            name, message = str(body.get("error")), body.get("message")
            if left > 0 and reply.status_code == httpx.codes.TOO_MANY_REQUESTS:
                self._wait(reply, nsid)
            elif left > 0 and reply.status_code in _OUTAGES and signed:
                time.sleep(_pause(left))
            elif left > 0 and signed and token and name in _EXPIRED:
                if nsid == "com.atproto.identity.signPlcOperation":
                    # It may be about the mailed code: the next run asks for another.
                    text = f"{self.url} refused {nsid}: {name}: {message}"
                    raise RefusedError(name, text)
                self.sign_in()
            else:
                text = f"{self.url} refused {nsid}: {name}: {message}"
                raise RefusedError(name, text)
        raise AssertionError("the last try returns or raises")

    def _send(
        self, method: str, nsid: str, more: Mapping[str, Any], token: str | None
    ) -> httpx.Response:
        headers = {"accept": "application/json"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        options = {
            name: value
            for name, value in more.items()
            if name in ("params", "json") and value is not None
        }
        path = more.get("file")
        if path is not None:
            headers["content-type"] = more["mime"]
            headers["content-length"] = str(path.stat().st_size)
            options["content"] = _pieces(path)
        url = f"{self.url}/xrpc/{nsid}"
        with httpx.stream(
            method,
            url,
            headers=headers,
            timeout=_TIMEOUT_S,
            trust_env=False,
            **options,
        ) as reply:
            data = bytearray()
            for piece in reply.iter_bytes():
                data += piece
                if len(data) > _MAX_REPLY_BYTES:
                    raise ServiceError(f"{url}: the reply is too large")
            kept = {
                name: value
                for name, value in reply.headers.items()
                if name in ("retry-after", "ratelimit-reset")
            }
            return httpx.Response(reply.status_code, headers=kept, content=bytes(data))

    def _wait(self, reply: httpx.Response, nsid: str) -> None:
        """Wait for a limit. Raises LimitReachedError if that takes too long."""
        seconds = _seconds(reply)
        if seconds > _MAX_WAIT_S:
            raise LimitReachedError(
                f"{self.url} allows no more {nsid} for {seconds / 60:.0f} minutes; run"
                " the command again then, it goes on where it stopped"
            )
        time.sleep(seconds)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _parse(reply: httpx.Response) -> Any:
    try:
        body = reply.json() if reply.content else {}
    except ValueError:
        body = {}
    return body if isinstance(body, dict) else {}


def _seconds(reply: httpx.Response) -> float:
    """Return the time after which a server wants the request again."""
    for name in ("retry-after", "ratelimit-reset"):
        try:
            value = float(reply.headers[name])
        except (KeyError, ValueError):
            continue
        if value > _EPOCH_S:
            value -= time.time()
        return max(1.0, value)
    return 60.0


def _pause(left: int) -> float:
    return float(2 ** (_MAX_TRIES - 1 - left))
