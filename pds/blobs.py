"""Blob rows: uploaded bytes, and the records that refer to them (specs/blob).

An uploaded blob is temporary: it is hidden until a record refers to it. It is deleted
some hours after the upload or after its last reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from pds.exceptions import (
    BlobNotFoundError,
    BlobTooLargeError,
    InvalidMimeTypeError,
    InvalidRequestError,
    InvalidSizeError,
)
from protocol.data.cbor import Value
from protocol.data.cid import (
    BLOB_PREFIX,
    CID_BYTES,
    Cid,
    cid_from_text,
    cid_to_text,
    raw_cid_for,
)
from protocol.errors import ProtocolError
from storage.postgres.crashpoint import Crashpoint, crashpoint
from storage.postgres.pool import Conn

DEFAULT_MIME_TYPE = "application/octet-stream"
MAX_MIME_TYPE_CHARS = 128

# The longer of two with the same start comes first.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (8, b"WEBP", "image/webp"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftyp", "video/mp4"),
)
_SAME = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg"}
# Containers: their content decides the type, not the first bytes.
_LOOSE = {
    "video/webm": frozenset({"audio/webm", "video/x-matroska"}),
    "video/mp4": frozenset({"audio/mp4", "image/avif", "video/quicktime"}),
}


@dataclass(frozen=True, slots=True)
class BlobRef:
    """A blob as a record names it."""

    cid: bytes
    mime_type: str
    size: int


@dataclass(frozen=True, slots=True)
class StoredBlob:
    mime_type: str
    value: bytes


def settle_mime_type(declared: str | None, data: bytes) -> str:
    """Return the type to store for `data`, declared as `declared` in its upload.

    The type of the bytes wins over the declared one, as on the reference PDS. Raises
    InvalidMimeTypeError for a declaration that is not a MIME type.
    """
    bare = (declared or "").partition(";")[0].strip().lower()
    bare = _SAME.get(bare, bare)
    found = _sniff(data)
    if bare in ("", "*/*", DEFAULT_MIME_TYPE):
        return found or DEFAULT_MIME_TYPE
    if len(bare) > MAX_MIME_TYPE_CHARS or not _is_mime_type(bare):
        raise InvalidMimeTypeError(f"not a MIME type: {bare[:80]!r}")
    if found is None or bare in _LOOSE.get(found, frozenset()):
        return bare
    return found


def store_blob(
    conn: Conn, account: int, data: bytes, mime_type: str, *, quota: int, now: datetime
) -> BlobRef:
    """Store `data` as a temporary blob. Raises BlobTooLargeError beyond `quota`.

    A repeated upload keeps the first type while a record names the blob.
    """
    cid = raw_cid_for(data)
    row = conn.execute(
        "SELECT coalesce(sum(size), 0) FROM blob WHERE account = %s AND cid <> %s",
        [account, cid],
    ).fetchone()
    assert row is not None
    if row[0] + len(data) > quota:
        raise BlobTooLargeError("the account's blob quota is used up")
    row = conn.execute(
        "INSERT INTO blob (account, cid, mime_type, size, touched_at, value)"
        " VALUES (%s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (account, cid) DO UPDATE SET touched_at = excluded.touched_at,"
        " mime_type = CASE WHEN EXISTS (SELECT FROM blob_use u WHERE"
        " u.account = blob.account AND u.cid = blob.cid)"
        " THEN blob.mime_type ELSE excluded.mime_type END"
        " RETURNING mime_type",
        [account, cid, mime_type, len(data), now, data],
    ).fetchone()
    assert row is not None
    crashpoint(Crashpoint.PDS_UPLOAD_STORED)
    return BlobRef(cid, row[0], len(data))


def find_blob(conn: Conn, account: int, cid: bytes) -> StoredBlob:
    """Return a blob that a record refers to. Raises BlobNotFoundError."""
    row = conn.execute(
        "SELECT mime_type, value FROM blob b WHERE account = %s AND cid = %s"
        " AND EXISTS (SELECT FROM blob_use u"
        " WHERE u.account = b.account AND u.cid = b.cid)",
        [account, cid],
    ).fetchone()
    if row is None:
        raise BlobNotFoundError("Blob not found")
    return StoredBlob(row[0], row[1])


def list_blobs(
    conn: Conn, account: int, since: str | None, after: bytes, limit: int
) -> list[bytes]:
    """Return CIDs of referenced blobs above `after`, first named after rev `since`."""
    rows = conn.execute(
        "SELECT cid FROM blob_use WHERE account = %s AND cid > %s GROUP BY cid"
        " HAVING %s::text IS NULL OR min(rev) > %s ORDER BY cid LIMIT %s",
        [account, after, since, since, limit],
    ).fetchall()
    return [row[0] for row in rows]


def use_blobs(
    conn: Conn, account: int, uses: list[tuple[str, BlobRef]], rev: str, now: datetime
) -> None:
    """Note that the records at these paths refer to these blobs.

    Raises BlobNotFoundError, InvalidMimeTypeError or InvalidSizeError when a record
    names a blob that was not uploaded, or with another type or size.
    """
    if not uses:
        return
    # An update, unlike a lock, makes a running sweep check the row again.
    stored = {
        row[0]: (row[1], row[2])
        for row in conn.execute(
            "UPDATE blob SET touched_at = %s WHERE account = %s AND cid = ANY(%s)"
            " RETURNING cid, mime_type, size",
            [now, account, sorted({ref.cid for _, ref in uses})],
        )
    }
    for path, ref in uses:
        if ref.cid not in stored:
            raise BlobNotFoundError(
                f"Could not find blob: {cid_to_text(ref.cid)} (in {path})"
            )
        mime_type, size = stored[ref.cid]
        if ref.mime_type != mime_type:
            raise InvalidMimeTypeError(
                f"Referenced MIME type {ref.mime_type!r} does not match stored blob:"
                f" {mime_type!r} (in {path})"
            )
        if ref.size != size:
            raise InvalidSizeError(
                f"Referenced size {ref.size} does not match stored blob: {size}"
                f" (in {path})"
            )
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO blob_use (account, cid, path, rev) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            [(account, ref.cid, path, rev) for path, ref in uses],
        )


def release_blobs(conn: Conn, account: int, paths: list[str], now: datetime) -> None:
    """Delete the references of the records at these paths."""
    conn.execute(
        "WITH gone AS (DELETE FROM blob_use WHERE account = %s AND path = ANY(%s)"
        " RETURNING cid)"
        " UPDATE blob SET touched_at = %s WHERE account = %s"
        " AND cid IN (SELECT cid FROM gone)",
        [account, paths, now, account],
    )


def sweep_blobs(conn: Conn, before: datetime) -> int:
    """Delete unreferenced blobs last touched before a time; return their number."""
    # Skips rows that a writer holds: a record is about to name them.
    return conn.execute(
        "WITH old AS (SELECT account, cid FROM blob b WHERE touched_at < %s"
        " AND NOT EXISTS (SELECT FROM blob_use u"
        " WHERE u.account = b.account AND u.cid = b.cid)"
        " FOR UPDATE SKIP LOCKED)"
        " DELETE FROM blob USING old"
        " WHERE blob.account = old.account AND blob.cid = old.cid",
        [before],
    ).rowcount


def blob_refs(value: Value) -> Iterator[BlobRef]:
    """Yield every blob that a record refers to.

    Raises InvalidRequestError for a malformed blob and for the old form `{cid,
    mimeType}`, which no new record may hold.
    """
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if item.get("$type") == "blob":
                yield _blob_ref(item)
            elif _is_legacy_blob(item):
                raise InvalidRequestError(
                    f"Legacy blobs are not allowed ({item['cid']})"
                )
            else:
                stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _blob_ref(item: dict[str, Value]) -> BlobRef:
    ref, mime_type, size = item.get("ref"), item.get("mimeType"), item.get("size")
    if (
        not isinstance(ref, Cid)
        or len(ref.raw) != CID_BYTES
        or not ref.raw.startswith(BLOB_PREFIX)
    ):
        raise InvalidRequestError("a blob must refer to a raw CID")
    if not isinstance(mime_type, str) or not isinstance(size, int):
        raise InvalidRequestError("a blob must have a mimeType and a size")
    return BlobRef(ref.raw, mime_type, size)


def _is_legacy_blob(item: dict[str, Value]) -> bool:
    """Return True for exactly a CID as text and a type, the old form of a blob."""
    cid = item.get("cid")
    if item.keys() != {"cid", "mimeType"} or not isinstance(cid, str):
        return False
    if not isinstance(item["mimeType"], str) or not item["mimeType"]:
        return False
    try:
        cid_from_text(cid)
    except ProtocolError:
        return False
    return True


def _sniff(data: bytes) -> str | None:
    for offset, signature, mime_type in _SIGNATURES:
        if data.startswith(signature, offset):
            return mime_type
    return None


def _is_mime_type(text: str) -> bool:
    kind, slash, subtype = text.partition("/")
    allowed = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.+-_")
    return bool(slash and kind and subtype) and allowed.issuperset(kind + subtype)
