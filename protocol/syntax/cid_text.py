"""CIDs as text in string fields (specs/lexicon, format cid): syntax only."""

from __future__ import annotations

import re

from protocol.limits import MAX_CID_TEXT_CHARS

_CID_TEXT = re.compile(r"[a-zA-Z0-9+=]{8,256}", re.ASCII)


def is_cid_text(text: str) -> bool:
    """Return True if `text` may be a CID of version 1 in some multibase."""
    return (
        len(text) <= MAX_CID_TEXT_CHARS
        and _CID_TEXT.fullmatch(text) is not None
        # A CID of version 0 has no multibase letter.
        and not text.startswith("Qm")
    )
