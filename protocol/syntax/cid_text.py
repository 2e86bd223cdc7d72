"""CIDs written as text in string fields (specs/lexicon, format cid): syntax only.

Links inside records are CIDs of their own kind: see `protocol.data.cid`.
"""

from __future__ import annotations

import re
from typing import NewType

from protocol.errors import InvalidSyntaxError
from protocol.limits import MAX_CID_TEXT_CHARS

CidText = NewType("CidText", str)

_CID_TEXT = re.compile(r"[a-zA-Z0-9+=]{8,256}", re.ASCII)


def is_cid_text(text: str) -> bool:
    """Whether `text` can be a CID of version 1 in some multibase."""
    return (
        len(text) <= MAX_CID_TEXT_CHARS
        and _CID_TEXT.fullmatch(text) is not None
        # The base58 text of a version 0 CID, which has no multibase letter.
        and not text.startswith("Qm")
    )


def parse_cid_text(text: str) -> CidText:
    """Return `text` as the text of a CID; raises InvalidSyntaxError."""
    if not is_cid_text(text):
        raise InvalidSyntaxError(f"not the text of a CID: {text[:80]!r}")
    return CidText(text)
