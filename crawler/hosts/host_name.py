"""One canonical name for each host.

A host is known by its lowercase DNS name. Ports, plain http and loopback names exist
only in development, where the port is part of the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType
from urllib.parse import urlsplit

from network.http.urls import is_hostname, is_loopback_name

HostName = NewType("HostName", str)

_LOOPBACK = "localhost"
_LOOPBACK_ADDRESSES = frozenset({"127.0.0.1", "[::1]"})


class InvalidHostError(ValueError):
    """The text does not name a host that may be crawled."""


@dataclass(frozen=True, slots=True)
class HostAddress:
    """A host's canonical name and the origin to reach it by."""

    name: HostName
    url: str


def parse_host(text: str, *, dev: bool = False) -> HostAddress:
    """Read a host name, an origin URL or a stream URL as a canonical host.

    Case, a trailing dot, the default port, a trailing slash, and the Unicode
    form of an internationalised name all lead to one name. Addresses, user info,
    paths, queries and other ports are refused with InvalidHostError. With `dev`
    loopback names may carry a port and plain http.
    """
    if not text or len(text) > 1_024 or any(ord(c) <= 32 or c == "\\" for c in text):
        raise InvalidHostError(f"not a host name: {text[:80]!r}")
    source = text if "://" in text else f"//{text}"
    try:
        parts = urlsplit(source)
        port = parts.port
        hostname = parts.hostname or ""
    except ValueError as error:
        raise InvalidHostError(f"not a host name: {text[:80]!r}") from error
    if parts.scheme not in {"", "https", "wss", "http", "ws"}:
        raise InvalidHostError(f"not a web host: {text[:80]!r}")
    if "@" in parts.netloc or parts.path not in {"", "/"}:
        raise InvalidHostError(f"not an origin: {text[:80]!r}")
    if parts.query or parts.fragment:
        raise InvalidHostError(f"not an origin: {text[:80]!r}")
    hostname = f"[{hostname}]" if ":" in hostname else hostname.removesuffix(".")
    if dev and is_loopback_name(hostname):
        # In development a name without a scheme is a loopback server, which
        # speaks plain http.
        scheme = "https" if parts.scheme in {"https", "wss"} else "http"
        suffix = f":{port}" if port is not None else ""
        known_as = _LOOPBACK if hostname in _LOOPBACK_ADDRESSES else hostname
        return HostAddress(
            HostName(f"{known_as}{suffix}"), f"{scheme}://{hostname}{suffix}"
        )
    if not hostname.isascii():
        try:
            hostname = hostname.encode("idna").decode("ascii").lower()
        except UnicodeError as error:
            raise InvalidHostError(f"not a host name: {text[:80]!r}") from error
    if not is_hostname(hostname):
        raise InvalidHostError(f"not a public host name: {text[:80]!r}")
    if parts.scheme in {"http", "ws"}:
        raise InvalidHostError(f"only https is allowed: {text[:80]!r}")
    if port not in {None, 443}:
        raise InvalidHostError(f"only port 443 is allowed: {text[:80]!r}")
    return HostAddress(HostName(hostname), f"https://{hostname}")


def is_host(text: str, *, dev: bool = False) -> bool:
    """Return True if `parse_host` accepts the text."""
    try:
        parse_host(text, dev=dev)
    except InvalidHostError:
        return False
    return True
