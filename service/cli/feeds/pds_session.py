"""A session at the PDS of an account, for commands that write to its repo."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import httpx
import typer

from service.operator_errors import ServiceError

PASSWORD_VARIABLE: Final = "ATPROTO_PASSWORD"  # noqa: S105  (a name, not a secret)
MAX_AVATAR_BYTES: Final = 1_000_000
_MAX_REPLY_BYTES: Final = 2_000_000
_TIMEOUT_S: Final = 60.0
_IMAGES: Final = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_SERVER: Final = "com.atproto.server"
_REPO: Final = "com.atproto.repo"

Pds = Annotated[str, typer.Option("--pds", help="URL of the PDS of the account.")]
Identifier = Annotated[
    str, typer.Option("--identifier", help="Handle or DID of the account.")
]


class RefusedError(ServiceError):
    """A server refused a request; `name` is its error."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, slots=True)
class XrpcClient:
    """Requests to one server. Raises ServiceError, RefusedError for its errors."""

    url: str
    token: str | None = None

    def query(self, nsid: str, **params: str) -> Any:
        """Return the reply of a query."""
        return self._send("GET", nsid, params=params)

    def call(self, nsid: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the reply of a procedure with a JSON body."""
        return self._send("POST", nsid, json=body)

    def upload(self, data: bytes, mime: str) -> Any:
        """Upload a blob; return the reference of it."""
        head = {"content-type": mime}
        reply = self._send("POST", f"{_REPO}.uploadBlob", content=data, headers=head)
        return reply["blob"]

    def _send(self, method: str, nsid: str, **more: Any) -> Any:
        headers = {"accept": "application/json"} | more.pop("headers", {})
        if self.token is not None:
            headers["authorization"] = f"Bearer {self.token}"
        url = f"{self.url.rstrip('/')}/xrpc/{nsid}"
        options = {k: v for k, v in more.items() if v is not None}
        try:
            with httpx.stream(
                method,
                url,
                headers=headers,
                timeout=_TIMEOUT_S,
                trust_env=False,
                **options,
            ) as reply:
                body = _read_json(reply)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise ServiceError(f"{self.url} does not answer: {error}") from error
        if reply.is_success:
            return body
        name, message = str(body.get("error")), body.get("message")
        raise RefusedError(name, f"{self.url} refused {nsid}: {name}: {message}")


def _read_json(reply: httpx.Response) -> Any:
    data = bytearray()
    for piece in reply.iter_bytes():
        data += piece
        if len(data) > _MAX_REPLY_BYTES:
            raise ValueError(f"the reply is over {_MAX_REPLY_BYTES} bytes")
    body = httpx.Response(200, content=bytes(data)).json() if data else {}
    if not isinstance(body, dict):
        raise ValueError("the reply is no object")
    return body


@dataclass(frozen=True, slots=True)
class PdsSession:
    """An account that is signed in at its PDS."""

    did: str
    handle: str
    pds: XrpcClient

    def service_client(self, url: str, audience: str, nsid: str) -> XrpcClient:
        """Return a client of a service as this account, for one call of a method."""
        reply = self.pds.query(f"{_SERVER}.getServiceAuth", aud=audience, lxm=nsid)
        return XrpcClient(url, str(reply["token"]))

    def find_record(self, collection: str, rkey: str) -> dict[str, Any] | None:
        """Return a record with its CID, None if there is none."""
        try:
            found: dict[str, Any] = self.pds.query(
                f"{_REPO}.getRecord", repo=self.did, collection=collection, rkey=rkey
            )
        except RefusedError as error:
            if error.name in ("RecordNotFound", "InvalidRequest"):
                return None
            raise
        return found

    def put_record(
        self, collection: str, rkey: str, record: Mapping[str, Any], swap: str | None
    ) -> str:
        """Write a record in the place of the one with the CID `swap`."""
        body = {
            "repo": self.did,
            "collection": collection,
            "rkey": rkey,
            "record": record,
            "swapRecord": swap,
        }
        return str(self.pds.call(f"{_REPO}.putRecord", body)["uri"])

    def delete_record(self, collection: str, rkey: str) -> None:
        """Delete a record; a missing one is no error."""
        body = {"repo": self.did, "collection": collection, "rkey": rkey}
        self.pds.call(f"{_REPO}.deleteRecord", body)


@contextmanager
def sign_in(url: str, identifier: str) -> Iterator[PdsSession]:
    """Sign in at a PDS, and sign out at the end. Raises ServiceError."""
    check_address(url)
    body = {"identifier": identifier.removeprefix("@"), "password": _read_password()}
    try:
        session = XrpcClient(url).call(f"{_SERVER}.createSession", body)
    except RefusedError as error:
        if error.name != "AuthFactorTokenRequired":
            raise
        raise ServiceError("this account needs an app password") from None
    try:
        yield PdsSession(
            str(session["did"]),
            str(session["handle"]),
            XrpcClient(url, str(session["accessJwt"])),
        )
    finally:
        # The session ends by itself if the PDS is away.
        with suppress(ServiceError):
            client = XrpcClient(url, str(session["refreshJwt"]))
            client.call(f"{_SERVER}.deleteSession")


def read_avatar(data: bytes) -> str:
    """Return the media type of an avatar. Raises ServiceError."""
    if len(data) > MAX_AVATAR_BYTES:
        raise ServiceError(f"the avatar is over {MAX_AVATAR_BYTES} bytes")
    for magic, mime in _IMAGES.items():
        if data.startswith(magic):
            return mime
    raise ServiceError("the avatar is neither a PNG nor a JPEG file")


def _read_password() -> str:
    """Return the password of the environment, or ask for it; it is never shown."""
    known = os.environ.get(PASSWORD_VARIABLE)
    if known:
        return known
    asked: str = typer.prompt("App password", hide_input=True, err=True)
    return asked


def check_address(url: str) -> None:
    """Refuse to send a password in the clear, except to this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" and host:
        return
    if parts.scheme != "http" or not _is_loopback(host):
        raise ServiceError(f"{url} is no https URL: a password is not sent to it")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
