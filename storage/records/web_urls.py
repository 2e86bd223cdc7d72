"""Web addresses in the form that documents and queries compare."""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b
from typing import Final
from urllib.parse import SplitResult, urlsplit

MAX_DOMAIN_CHARS: Final = 640
MAX_URL_CHARS: Final = 512
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# URLs that are in their normal form already, at a tenth of the time.
_USUAL_URL: Final = re.compile(
    r"https?://(?!.*\.\.)[a-z0-9][a-z0-9.-]*[a-z0-9](?:/[!$&'()*+,;=:@%?\w./~-]*)?(?<![/?])",
    re.ASCII,
)
_IDEOGRAPHIC_DOT: Final = "\u3002"


def normalize_domain(name: str) -> str:
    """Return a domain name in lower case and punycode, without outer dots.

    Never fails: a name that DNS would refuse is compared unchanged.
    """
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name).replace(_IDEOGRAPHIC_DOT, ".")
    name = name.lower()
    if not name.isascii():
        # Lower case may allow further composition.
        name = unicodedata.normalize("NFC", name)
        name = ".".join(map(_to_ascii, name.split(".")))
    return name.strip(".")[:MAX_DOMAIN_CHARS]


def normalize_url(url: str) -> str:
    """Return a URL without fragment, trailing slash and default port.

    The scheme is in lower case, the host as in `normalize_domain`.
    """
    return _normalize(url)[:MAX_URL_CHARS]


def url_number(url: str) -> int:
    """Return the number of a URL as the target of links: 63 bits of its hash.

    URLs that `normalize_url` makes equal have one number.
    """
    text = url if _USUAL_URL.fullmatch(url) else _normalize(url)
    digest = blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _normalize(url: str) -> str:
    plain = url.split("#", 1)[0]
    parts = _split(plain)
    if parts is None or not parts.netloc:
        return plain.rstrip("/")
    host = normalize_domain(parts.hostname or "")
    if ":" in host:
        host = f"[{host}]"
    port = _port(parts)
    if port is not None and port != _DEFAULT_PORTS.get(parts.scheme):
        host += f":{port}"
    user, at, _ = parts.netloc.rpartition("@")
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    return f"{parts.scheme}://{user}{at}{host}{path}".rstrip("/?")


def domain_of(url: str) -> str | None:
    parts = _split(url)
    host = normalize_domain(parts.hostname or "") if parts else ""
    return host or None


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        # The property may raise ValueError.
        return parts if parts.hostname is not None else None
    except ValueError:
        return None


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        return None


def _to_ascii(label: str) -> str:
    if label.isascii():
        return label
    try:
        return "xn--" + label.encode("punycode").decode("ascii")
    except UnicodeError:
        return label
