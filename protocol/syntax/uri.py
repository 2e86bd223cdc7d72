"""URIs of any scheme (specs/lexicon, format uri): a scheme and visible ASCII."""

from __future__ import annotations

import re
from typing import NewType

from protocol.errors import InvalidSyntaxError
from protocol.limits import MAX_URI_CHARS

Uri = NewType("Uri", str)

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,80}:[!-~]+", re.ASCII)


def is_uri(text: str) -> bool:
    """Whether `text` is a URI with a scheme."""
    return len(text) <= MAX_URI_CHARS and _URI.fullmatch(text) is not None


def parse_uri(text: str) -> Uri:
    """Return `text` as a URI; raises InvalidSyntaxError."""
    if not is_uri(text):
        raise InvalidSyntaxError(f"not a URI: {text[:80]!r}")
    return Uri(text)
