"""Labels in force as their labelers signed them, by subject or by time.

Pages are ranges of an index of `label`: a page costs the same wherever it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from appview.paging import Entry, Keyset
from network.xrpc.server import XrpcError
from protocol.syntax import is_did, is_nsid, is_record_key
from storage.postgres.instants import from_micros, micros_sql
from storage.postgres.pool import Conn
from storage.records.addresses import (
    find_actors,
    find_collections,
    find_record_keys,
)

MAX_PATTERNS: Final = 50
MAX_PATTERN_CHARS: Final = 8_192
_KEY: Final = "l.actor, l.collection, l.rkey, l.src, l.val, l.cid"
_REST: Final = "l.actor, l.collection, l.rkey, l.val, l.cid"
_IN_FORCE: Final = "NOT l.neg AND (l.exp IS NULL OR l.exp > now())"


class StoredLabel(NamedTuple):
    """A label in force: its subject's account, and the label as signed."""

    actor: int
    raw: bytes


class Range(NamedTuple):
    """Subjects of one pattern: an account, or its records, or one of them.

    Without a collection all records, without a record key all of the collection.
    """

    actor: int
    collection: int | None = None
    rkey: int | None = None


@dataclass(frozen=True, slots=True)
class Everything:
    """All labels of one source."""

    src: int


def find_ranges(
    conn: Conn, patterns: Sequence[str], sources: Sequence[int]
) -> list[Range] | list[Everything]:
    """Return the subjects of patterns, without unknown ones. Raises XrpcError."""
    if not 0 < len(patterns) <= MAX_PATTERNS:
        raise XrpcError("InvalidRequest", f"uriPatterns: 1 to {MAX_PATTERNS}", 400)
    parts = [_split(pattern) for pattern in dict.fromkeys(patterns) if pattern != "*"]
    if "*" in patterns:
        return [Everything(src) for src in sorted(sources)]
    actors = find_actors(conn, {did for did, _, _ in parts})
    collections = find_collections(conn, {nsid for _, nsid, _ in parts if nsid})
    rkeys = find_record_keys(conn, {rkey for _, _, rkey in parts if rkey})
    ranges = set()
    for did, nsid, rkey in parts:
        actor = actors.get(did)
        collection = collections.get(nsid) if nsid else 0
        number = rkeys.get(rkey) if rkey else 0
        if None not in (actor, collection, number):
            assert actor is not None
            ranges.add(
                Range(
                    actor,
                    None if nsid is None else collection,
                    None if rkey is None else number,
                )
            )
    # A label must not come twice: of ranges inside each other only the widest.
    return sorted((r for r in ranges if not _is_covered(r, ranges)), key=_order)


def _order(found: Range) -> tuple[int, int, int]:
    return found.actor, found.collection or 0, found.rkey or 0


def _is_covered(one: Range, ranges: set[Range]) -> bool:
    if one.collection == 0:
        return False
    wider = {Range(one.actor), Range(one.actor, one.collection)} - {one}
    return bool(wider & ranges)


def _split(pattern: str) -> tuple[str, str | None, str | None]:
    """Return account, collection and record key of a pattern.

    None stands for any of them, an empty text for the account itself. Raises XrpcError.
    """
    is_prefix = pattern.endswith("*")
    text = pattern.removesuffix("*")
    did, slash, path = text.removeprefix("at://").partition("/")
    nsid, second, rkey = path.partition("/")
    if len(pattern) <= MAX_PATTERN_CHARS and is_did(did):
        if not text.startswith("at://"):
            # A DID with `*` would name all DIDs that begin so.
            if not slash and not is_prefix:
                return did, "", ""
        elif is_prefix and slash and not path:
            return did, None, None
        elif is_nsid(nsid) and is_prefix and second and not rkey:
            return did, nsid, None
        elif is_nsid(nsid) and not is_prefix and is_record_key(rkey):
            return did, nsid, rkey
    raise XrpcError(
        "InvalidRequest",
        f"uriPatterns: {pattern[:200]!r} is not supported; give a DID, an AT-URI of a"
        " record, at://DID/*, at://DID/COLLECTION/* or *",
        400,
    )


def labels_in(
    conn: Conn,
    ranges: Sequence[Range | Everything],
    sources: Sequence[int],
    *,
    after: Keyset | None,
    limit: int,
) -> list[Entry[StoredLabel]]:
    """Return labels in force of some sources, range by range.

    A keyset is the number of a range, and the key of a label in it.
    """
    found: list[Entry[StoredLabel]] = []
    for place, wanted in enumerate(ranges):
        if after is not None and place < after[0]:
            continue
        start = after[1:] if after is not None and place == after[0] else None
        left = limit - len(found)
        if isinstance(wanted, Everything):
            rows = _read_source(conn, wanted.src, start, left)
        else:
            rows = _read_subjects(conn, wanted, sources, start, left)
        for actor, raw, *key, cid in rows:
            keyset = [place, *key, bytes(cid).hex()]
            found.append(Entry(StoredLabel(actor, bytes(raw)), keyset))
        if len(found) >= limit:
            break
    return found


def _read_subjects(
    conn: Conn,
    wanted: Range,
    sources: Sequence[int],
    start: Keyset | None,
    limit: int,
) -> list[tuple[Any, ...]]:
    bounds = [
        f"l.{column} = {int(value)}"
        for column, value in zip(Range._fields, wanted, strict=True)
        if value is not None
    ]
    if wanted.collection is None:
        bounds.append("l.collection > 0")
    keyset: list[Any] = []
    if start is not None:
        bounds.append(f"({_KEY}) > (%s, %s, %s, %s, %s, %s)")
        keyset = [*start[:5], bytes.fromhex(start[5])]
    where = " AND ".join([*bounds, "l.src = ANY(%s)", _IN_FORCE])
    return conn.execute(
        f"SELECT l.actor, l.raw, {_KEY} FROM label l WHERE {where}"
        f" ORDER BY {_KEY} LIMIT %s",
        (*keyset, [*sources], limit),
    ).fetchall()


def _read_source(
    conn: Conn, src: int, start: Keyset | None, limit: int
) -> list[tuple[Any, ...]]:
    """Return labels of a source by time."""
    bounds, keyset = "", []
    if start is not None:
        # The first condition is for the index.
        bounds = f" AND l.cts >= %s AND (l.cts, {_REST}) > (%s, %s, %s, %s, %s, %s)"
        cts = from_micros(start[0])
        keyset = [cts, cts, *start[1:5], bytes.fromhex(start[5])]
    return conn.execute(
        f"SELECT l.actor, l.raw, {micros_sql('l.cts')}, {_REST} FROM label l"
        f" WHERE l.src = %s AND {_IN_FORCE}{bounds}"
        f" ORDER BY l.cts, {_REST} LIMIT %s",
        (src, *keyset, limit),
    ).fetchall()


def labels_since(
    conn: Conn, sources: Sequence[int], since: datetime, limit: int
) -> list[StoredLabel]:
    """Return the first labels in force that are newer than `since`, by time."""
    rows = conn.execute(
        f"""
        SELECT x.actor, x.raw FROM unnest(%s::int4[]) AS s (id)
        CROSS JOIN LATERAL (
            SELECT l.actor, l.cts, l.raw FROM label l
            WHERE l.src = s.id AND l.cts > %s AND {_IN_FORCE}
            ORDER BY l.cts LIMIT %s
        ) x
        ORDER BY x.cts, x.raw LIMIT %s
        """,
        ([*sources], since, limit, limit),
    )
    return [StoredLabel(*row) for row in rows]
