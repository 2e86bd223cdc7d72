"""Namespaced identifiers of lexicons (specs/nsid)."""

from __future__ import annotations

import re
from typing import Final, NewType

from protocol.errors import InvalidSyntaxError
from protocol.limits import MAX_NSID_CHARS

Nsid = NewType("Nsid", str)

NSID_PATTERN: Final = (
    r"[a-zA-Z](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)+"
    r"\.[a-zA-Z][a-zA-Z0-9]{0,62}"
)

_NSID = re.compile(NSID_PATTERN, re.ASCII)


def is_nsid(text: str) -> bool:
    """Return True if `text` is an NSID.

    The authority may exceed the specification's 253 characters, as in its test vectors.
    """
    return len(text) <= MAX_NSID_CHARS and _NSID.fullmatch(text) is not None


def parse_nsid(text: str) -> Nsid:
    """Return `text` as an NSID with its case kept; raise InvalidSyntaxError."""
    if not is_nsid(text):
        raise InvalidSyntaxError(f"not an NSID: {text[:80]!r}")
    return Nsid(text)
