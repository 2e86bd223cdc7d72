"""References to blobs inside records, current and legacy (specs/data-model)."""

from __future__ import annotations

from collections.abc import Mapping

from protocol.data.cid import Cid, cid_from_text, is_cid
from protocol.errors import InvalidEncodingError


def blob_cid(blob: object) -> bytes | None:
    """Return the CID (36 bytes) of a blob reference, or None.

    Links may be `Cid` or plain bytes. A legacy reference, {cid, mimeType} without
    `$type`, must hold a valid CID.
    """
    if not isinstance(blob, Mapping):
        return None
    ref = blob.get("ref")
    raw = ref.raw if isinstance(ref, Cid) else ref
    # A byte string is plain bytes, too.
    if isinstance(raw, bytes) and is_cid(raw):
        return raw
    legacy = blob.get("cid")
    if "$type" in blob or not isinstance(legacy, str):
        return None
    try:
        return cid_from_text(legacy)
    except InvalidEncodingError:
        return None
