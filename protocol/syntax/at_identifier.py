"""Either a DID or a handle (specs/lexicon, format at-identifier)."""

from __future__ import annotations

from protocol.errors import InvalidSyntaxError
from protocol.syntax.did import Did, is_did
from protocol.syntax.handle import Handle, is_handle


def is_at_identifier(text: str) -> bool:
    """Whether `text` is a DID or a handle."""
    return is_did(text) if text.startswith("did:") else is_handle(text)


def parse_at_identifier(text: str) -> Did | Handle:
    """Return `text` as the one or the other; raises InvalidSyntaxError.

    A handle never holds a colon, so `startswith("did:")` tells them apart.
    """
    if not is_at_identifier(text):
        raise InvalidSyntaxError(f"neither a DID nor a handle: {text[:80]!r}")
    return Did(text) if text.startswith("did:") else Handle(text)
