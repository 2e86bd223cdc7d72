"""DIDs or handles (specs/lexicon, format at-identifier)."""

from __future__ import annotations

from protocol.syntax.did import is_did
from protocol.syntax.handle import is_handle


def is_at_identifier(text: str) -> bool:
    """Return True if `text` is a DID or a handle."""
    return is_did(text) if text.startswith("did:") else is_handle(text)
