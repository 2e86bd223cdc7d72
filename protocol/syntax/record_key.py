"""Record keys and repo paths (specs/record-key, specs/repository)."""

from __future__ import annotations

import re
from typing import Final, NewType

from protocol.errors import InvalidSyntaxError
from protocol.limits import MAX_NSID_CHARS, MAX_PATH_BYTES, MAX_RECORD_KEY_CHARS
from protocol.syntax.nsid import NSID_PATTERN, Nsid

RecordKey = NewType("RecordKey", str)

# specs/record-key allows the colon; specs/repository does not. Such records exist.
RECORD_KEY_PATTERN: Final = r"(?!\.{1,2}\Z)[A-Za-z0-9._~:-]{1,512}"

_RECORD_KEY = re.compile(RECORD_KEY_PATTERN, re.ASCII)
_PATH = re.compile(f"({NSID_PATTERN})/({RECORD_KEY_PATTERN})", re.ASCII)


def is_record_key(text: str) -> bool:
    return len(text) <= MAX_RECORD_KEY_CHARS and _RECORD_KEY.fullmatch(text) is not None


def parse_path(text: str) -> tuple[Nsid, RecordKey]:
    """Split the repo path "collection/record-key"; raise InvalidSyntaxError."""
    match = _PATH.fullmatch(text) if len(text) <= MAX_PATH_BYTES else None
    if match is None or len(match[1]) > MAX_NSID_CHARS:
        raise InvalidSyntaxError(f"not a repo path: {text[:80]!r}")
    return Nsid(match[1]), RecordKey(match[2])
