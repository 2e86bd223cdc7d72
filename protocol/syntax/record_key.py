"""Record keys and repo paths (specs/record-key, specs/repository)."""

from __future__ import annotations

import re
from typing import NewType

from protocol.errors import InvalidSyntaxError
from protocol.limits import MAX_PATH_BYTES, MAX_RECORD_KEY_CHARS
from protocol.syntax.nsid import Nsid, is_nsid

RecordKey = NewType("RecordKey", str)

# specs/repository leaves the colon out of the characters of a path; specs/record-key
# has it, and records with such keys exist.
_RECORD_KEY = re.compile(r"[A-Za-z0-9._~:-]{1,512}", re.ASCII)


def is_record_key(text: str) -> bool:
    """Whether `text` is a record key of any kind."""
    return (
        len(text) <= MAX_RECORD_KEY_CHARS
        and _RECORD_KEY.fullmatch(text) is not None
        and text not in (".", "..")
    )


def parse_record_key(text: str) -> RecordKey:
    """Return `text` as a record key; raises InvalidSyntaxError."""
    if not is_record_key(text):
        raise InvalidSyntaxError(f"not a record key: {text[:80]!r}")
    return RecordKey(text)


def parse_path(text: str) -> tuple[Nsid, RecordKey]:
    """Split a repo path, "collection/record-key".

    Raises InvalidSyntaxError for anything but exactly one NSID and one record key.
    """
    collection, slash, rkey = text.partition("/")
    if (
        len(text) > MAX_PATH_BYTES
        or not slash
        or not is_nsid(collection)
        or not is_record_key(rkey)
    ):
        raise InvalidSyntaxError(f"not a repo path: {text[:80]!r}")
    return Nsid(collection), RecordKey(rkey)
