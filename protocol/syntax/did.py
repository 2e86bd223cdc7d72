"""Decentralized identifiers (specs/did): syntax only."""

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
    return len(text) <= MAX_DID_CHARS and _DID.fullmatch(text) is not None


def parse_did(text: str) -> Did:
    """Return `text` as a DID of any method; raise InvalidSyntaxError."""
    if not is_did(text):
        raise InvalidSyntaxError(f"not a DID: {text[:80]!r}")
    return Did(text)


def did_method(did: Did) -> str:
    return did.split(":", 2)[1]


def is_plc_did(text: str) -> bool:
    return len(text) == 32 and _PLC.fullmatch(text) is not None
