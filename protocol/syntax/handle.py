"""Handles: domain names that identify accounts (specs/handle)."""

from __future__ import annotations

import re
from typing import Final, NewType

from protocol.errors import InvalidSyntaxError
from protocol.limits import MAX_HANDLE_CHARS

Handle = NewType("Handle", str)

# Shown for an account whose handle does not resolve to its DID.
INVALID_HANDLE = Handle("handle.invalid")

HANDLE_PATTERN: Final = (
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+"
    r"[a-zA-Z](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
)

_HANDLE = re.compile(HANDLE_PATTERN, re.ASCII)

# Top-level domains that do not exist on the public network.
_RESERVED = frozenset(
    ("alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion")
)


def is_handle(text: str) -> bool:
    return len(text) <= MAX_HANDLE_CHARS and _HANDLE.fullmatch(text) is not None


def parse_handle(text: str) -> Handle:
    """Return `text` as a handle with its case kept; raise InvalidSyntaxError."""
    if not is_handle(text):
        raise InvalidSyntaxError(f"not a handle: {text[:80]!r}")
    return Handle(text)


def normalize_handle(text: str) -> Handle:
    """Return `text` as a handle in lower case; raise InvalidSyntaxError."""
    return Handle(parse_handle(text).lower())


def is_resolvable_handle(handle: Handle, *, allow_test: bool = False) -> bool:
    """Return True if the top-level domain may be resolved.

    `allow_test` admits ".test", for development.
    """
    top = handle.rpartition(".")[2].lower()
    if top == "test":
        return allow_test
    return top not in _RESERVED
