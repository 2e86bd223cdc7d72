"""Blob types, and blobs inside records."""

from __future__ import annotations

import pytest

from pds.blobs import BlobRef, blob_refs, settle_mime_type
from pds.exceptions import InvalidMimeTypeError, InvalidRequestError
from protocol.data.cid import Cid, cid_for, raw_cid_for

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
WEBP = b"RIFF\x10\0\0\0WEBPVP8 "
MP4 = b"\0\0\0\x18ftypmp42"
RAW = raw_cid_for(b"blob")


@pytest.mark.parametrize(
    ("declared", "data", "stored"),
    [
        ("image/png", PNG, "image/png"),
        ("IMAGE/PNG; q=1", PNG, "image/png"),
        (None, PNG, "image/png"),
        ("*/*", WEBP, "image/webp"),
        ("application/octet-stream", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("image/jpg", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("audio/mp4", MP4, "audio/mp4"),
        ("video/mp4", MP4, "video/mp4"),
        (None, b"plain", "application/octet-stream"),
        ("text/plain", b"plain", "text/plain"),
        ("text/html", b"<script>", "text/html"),
        # The type of the bytes wins, as on the reference PDS.
        ("image/jpeg", PNG, "image/png"),
        ("text/plain", PNG, "image/png"),
        ("image/png", b"%PDF-1.7", "application/pdf"),
    ],
)
def test_settle_mime_type_keeps_a_matching_type(
    declared: str | None, data: bytes, stored: str
) -> None:
    assert settle_mime_type(declared, data) == stored


@pytest.mark.parametrize(
    ("declared", "data"),
    [
        ("nonsense", PNG),
        ("nonsense", b"plain"),
        ("image/", b"plain"),
        ("image/p\u00fcng", b"plain"),
        ('image/png"\r\nx: y', b"plain"),
    ],
)
def test_settle_mime_type_refuses_a_broken_type(declared: str, data: bytes) -> None:
    with pytest.raises(InvalidMimeTypeError):
        settle_mime_type(declared, data)


def _blob(**changes: object) -> dict[str, object]:
    return {
        "$type": "blob",
        "ref": Cid(RAW),
        "mimeType": "image/png",
        "size": 4,
    } | changes


def test_blob_refs_finds_blobs_at_any_depth() -> None:
    record = {"a": [{"b": _blob()}, _blob(size=5)], "c": {"$type": "x", "d": None}}
    assert set(blob_refs(record)) == {
        BlobRef(RAW, "image/png", 4),
        BlobRef(RAW, "image/png", 5),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"ref": "bafkrei"},
        {"ref": Cid(cid_for(b"block"))},
        {"mimeType": 5},
        {"size": "4"},
        {"size": None},
    ],
)
def test_blob_refs_refuses_a_malformed_blob(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        list(blob_refs(_blob(**changes)))
