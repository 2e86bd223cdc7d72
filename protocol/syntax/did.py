"""Decentralized identifiers (specs/did): syntax only, never whether one resolves."""

from __future__ import annotations

import re
from typing import Final, NewType

from protocol.errors import InvalidSyntaxError
from protocol.limits import MAX_DID_CHARS

Did = NewType("Did", str)

DID_PATTERN: Final = r"did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]"

_DID = re.compile(DID_PATTERN, re.ASCII)
_PLC = re.compile(r"did:plc:[a-z2-7]{24}", re.ASCII)


def is_did(text: str) -> bool:
    """Whether `text` is a DID of any method."""
    return len(text) <= MAX_DID_CHARS and _DID.fullmatch(text) is not None


def parse_did(text: str) -> Did:
    """Return `text` as a DID of any method, case kept.

    Raises InvalidSyntaxError. Whether the method is one we can resolve is another
    question: see `did_method` and `is_plc_did`.
    """
    if not is_did(text):
        raise InvalidSyntaxError(f"not a DID: {text[:80]!r}")
    return Did(text)


def did_method(did: Did) -> str:
    """The method name: "plc" of "did:plc:…"."""
    return did.split(":", 2)[1]


def is_plc_did(text: str) -> bool:
    """Whether `text` is a did:plc of exactly 24 base32 characters."""
    return len(text) == 32 and _PLC.fullmatch(text) is not None
