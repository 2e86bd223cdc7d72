"""URIs of any scheme in visible ASCII (specs/lexicon, format uri)."""

from __future__ import annotations

import re

from protocol.limits import MAX_URI_CHARS

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,80}:[!-~]+", re.ASCII)


def is_uri(text: str) -> bool:
    """Return True if `text` is a URI with a scheme."""
    return len(text) <= MAX_URI_CHARS and _URI.fullmatch(text) is not None
