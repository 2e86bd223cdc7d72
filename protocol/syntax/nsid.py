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
    """Whether `text` is an NSID.

    The specification bounds the authority to 253 characters as well; its own test
    vectors and every other implementation take a longer one, and so does this.
    """
    return len(text) <= MAX_NSID_CHARS and _NSID.fullmatch(text) is not None


def parse_nsid(text: str) -> Nsid:
    """Return `text` as an NSID, letter case kept; raises InvalidSyntaxError."""
    if not is_nsid(text):
        raise InvalidSyntaxError(f"not an NSID: {text[:80]!r}")
    return Nsid(text)


def nsid_authority(nsid: Nsid) -> str:
    """The domain that speaks for an NSID, in DNS order and lower case.

    "app.bsky.feed.post" gives "feed.bsky.app".
    """
    return ".".join(reversed(nsid.split(".")[:-1])).lower()
