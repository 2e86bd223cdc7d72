"""AT-URIs in the form lexicons use: no query, no fragment (specs/at-uri-scheme)."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import InvalidSyntaxError
from protocol.limits import MAX_AT_URI_CHARS
from protocol.syntax.at_identifier import is_at_identifier
from protocol.syntax.did import Did
from protocol.syntax.handle import Handle
from protocol.syntax.nsid import Nsid, is_nsid
from protocol.syntax.record_key import RecordKey, is_record_key

_SCHEME = "at://"


@dataclass(frozen=True, slots=True)
class AtUri:
    """A repo, a collection of it (`rkey` None), or one record."""

    authority: Did | Handle
    collection: Nsid | None = None
    rkey: RecordKey | None = None

    def __str__(self) -> str:
        if self.collection is None:
            return f"{_SCHEME}{self.authority}"
        if self.rkey is None:
            return f"{_SCHEME}{self.authority}/{self.collection}"
        return f"{_SCHEME}{self.authority}/{self.collection}/{self.rkey}"


def _split(text: str) -> list[str] | None:
    if len(text) > MAX_AT_URI_CHARS or not text.startswith(_SCHEME):
        return None
    parts = text[5:].split("/", 3)
    count = len(parts)
    if (
        count > 3
        or not is_at_identifier(parts[0])
        or (count > 1 and not is_nsid(parts[1]))
        or (count > 2 and not is_record_key(parts[2]))
    ):
        return None
    return parts


def is_at_uri(text: str) -> bool:
    """Whether `text` is an AT-URI of a repo, a collection or a record."""
    return _split(text) is not None


def parse_at_uri(text: str) -> AtUri:
    """Take an AT-URI apart; raises InvalidSyntaxError.

    The authority may be a DID or a handle. `str()` of the result is `text` again.
    """
    parts = _split(text)
    if parts is None:
        raise InvalidSyntaxError(f"not an AT-URI: {text[:80]!r}")
    authority = parts[0]
    return AtUri(
        Did(authority) if authority.startswith("did:") else Handle(authority),
        Nsid(parts[1]) if len(parts) > 1 else None,
        RecordKey(parts[2]) if len(parts) > 2 else None,
    )
