"""Record keys and repo paths (specs/record-key, specs/repository)."""

from __future__ import annotations

import re
from typing import Final, NewType

from protocol.errors import InvalidSyntaxError
from protocol.limits import MAX_NSID_CHARS, MAX_PATH_BYTES, MAX_RECORD_KEY_CHARS
from protocol.syntax.nsid import NSID_PATTERN, Nsid

RecordKey = NewType("RecordKey", str)

# specs/repository leaves the colon out of the characters of a path; specs/record-key
# has it, and records with such keys exist.
RECORD_KEY_PATTERN: Final = r"(?!\.{1,2}\Z)[A-Za-z0-9._~:-]{1,512}"

_RECORD_KEY = re.compile(RECORD_KEY_PATTERN, re.ASCII)
_PATH = re.compile(f"({NSID_PATTERN})/({RECORD_KEY_PATTERN})", re.ASCII)


def is_record_key(text: str) -> bool:
    """Whether `text` is a record key of any kind."""
    return len(text) <= MAX_RECORD_KEY_CHARS and _RECORD_KEY.fullmatch(text) is not None


def parse_record_key(text: str) -> RecordKey:
    """Return `text` as a record key; raises InvalidSyntaxError."""
    if not is_record_key(text):
        raise InvalidSyntaxError(f"not a record key: {text[:80]!r}")
    return RecordKey(text)


def parse_path(text: str) -> tuple[Nsid, RecordKey]:
    """Split a repo path, "collection/record-key".

    Raises InvalidSyntaxError for anything but exactly one NSID and one record key.
    """
    match = _PATH.fullmatch(text) if len(text) <= MAX_PATH_BYTES else None
    if match is None or len(match[1]) > MAX_NSID_CHARS:
        raise InvalidSyntaxError(f"not a repo path: {text[:80]!r}")
    return Nsid(match[1]), RecordKey(match[2])
