"""References to blobs inside records (specs/data-model), also those of before 2023."""

from __future__ import annotations

from collections.abc import Mapping

from protocol.data.cid import Cid, cid_from_text, is_cid
from protocol.errors import InvalidEncodingError


def blob_cid(blob: object) -> bytes | None:
    """Return the CID (36 bytes) of a blob, or None if it names none.

    Links may be `Cid` or plain bytes. The legacy form is {cid, mimeType} without a
    type; its CID is a text of the author, so it must be a CID to the letter.
    """
    if not isinstance(blob, Mapping):
        return None
    ref = blob.get("ref")
    raw = ref.raw if isinstance(ref, Cid) else ref
    # Byte strings come as bytes too, of any length.
    if isinstance(raw, bytes) and is_cid(raw):
        return raw
    legacy = blob.get("cid")
    if "$type" in blob or not isinstance(legacy, str):
        return None
    try:
        return cid_from_text(legacy)
    except InvalidEncodingError:
        return None
