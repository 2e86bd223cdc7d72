"""The grammar of URLs that may be fetched, much narrower than the web's.

Host names only: every way to spell an address (hex, octal, one number, wide
digits, user info, back-slashes) fails the grammar before anything is resolved.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin

from yarl import URL

from network.errors import ForbiddenAddressError

MAX_URL_CHARS: Final = 16_384

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# specs/handle: one grammar for handles and hosts. The top level starts with a letter,
# which excludes every numeric spelling of an address.
_HOSTNAME: Final = re.compile(
    rf"(?:{_LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?", re.ASCII
)
_LOOPBACK_NAME: Final = re.compile(
    r"localhost"
    rf"|(?:{_LABEL}\.)+localhost"
    r"|127\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2})"
    r"|\[::1\]",
    re.ASCII,
)
_SEGMENT = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/\[\]-]|%[0-9A-Fa-f]{2})*"
_URL: Final = re.compile(
    r"(?P<scheme>https?|wss?)://"
    r"(?P<host>[A-Za-z0-9.-]{1,253}|\[::1\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    rf"(?P<path>/{_SEGMENT})?"
    rf"(?:\?(?P<query>(?:{_SEGMENT}|\?)*))?",
    re.ASCII,
)
# Names that are not in the public DNS.
_RESERVED_TOP_LEVELS: Final = frozenset(
    ("alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion")
)
_DEFAULT_PORTS: Final = {"https": 443, "wss": 443, "http": 80, "ws": 80}


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL in parts; `host` without brackets, `query` without "?"."""

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def authority(self) -> str:
        """Return `host:port`, the key of budgets and connection pools."""
        return f"{self.host}:{self.port}"

    @property
    def origin(self) -> str:
        """Return scheme, host and port as a URL without path."""
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self._bracketed}{port}"

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"{self.origin}{self.path}{query}"

    def to_yarl(self) -> URL:
        """Return the URL for aiohttp, built of the checked parts."""
        return URL.build(
            scheme=self.scheme,
            host=self._bracketed,
            port=self.port,
            path=self.path,
            query_string=self.query,
            encoded=True,
        )


def is_hostname(text: str) -> bool:
    """Return True for a lower-case name that may be a public host."""
    return (
        len(text) <= 253
        and _HOSTNAME.fullmatch(text) is not None
        and text.rsplit(".", 1)[1] not in _RESERVED_TOP_LEVELS
        and not text.endswith(".test")
    )


def is_loopback_name(text: str) -> bool:
    """Return True for `localhost`, names below it, dotted 127.x.y.z and `[::1]`."""
    return len(text) <= 253 and _LOOPBACK_NAME.fullmatch(text) is not None


def parse_url(text: str, *, allow_loopback: bool) -> Target:
    """Return a URL checked against the grammar.

    Allows https and wss on port 443 of a public host name; with `allow_loopback` also
    loopback names, by any of the four schemes and on any port. Raises
    ForbiddenAddressError.
    """
    if len(text) > MAX_URL_CHARS:
        raise ForbiddenAddressError("URL is too long")
    match = _URL.fullmatch(text)
    if match is None:
        raise ForbiddenAddressError(f"not a URL that may be fetched: {text[:200]!r}")
    scheme, host = match["scheme"], match["host"].lower()
    port = int(match["port"]) if match["port"] else _DEFAULT_PORTS[scheme]
    if allow_loopback and is_loopback_name(host):
        if not 0 < port < 65_536:
            raise ForbiddenAddressError(f"port {port} is out of range")
    else:
        if not is_hostname(host):
            raise ForbiddenAddressError(f"{host!r} is not a public host name")
        if scheme not in ("https", "wss"):
            raise ForbiddenAddressError(f"{scheme} is not encrypted")
        if port != 443:
            raise ForbiddenAddressError(f"port {port} is not 443")
    return Target(
        scheme=scheme,
        host=host.strip("[]"),
        port=port,
        path=match["path"] or "/",
        query=match["query"] or "",
    )


def follow_redirect(base: Target, location: str, *, allow_loopback: bool) -> Target:
    """Return the target of a `Location` header, by the same grammar.

    Raises ForbiddenAddressError, also for a redirect from https to http.
    """
    if len(location) > MAX_URL_CHARS or not location.isascii():
        raise ForbiddenAddressError("redirect to an unreadable place")
    try:
        joined = urljoin(str(base), location.partition("#")[0])
    except ValueError as error:
        raise ForbiddenAddressError("redirect to an unreadable place") from error
    target = parse_url(joined, allow_loopback=allow_loopback)
    if base.scheme == "https" and target.scheme != "https":
        raise ForbiddenAddressError("redirect leaves https")
    return target
