"""Tables, columns and file names of an export.

    records/collection=app.bsky.feed.post/date=2026-12-01/part-<from>-<to>.parquet
    links|posts|actors|stats|labels/date=…/part-<from>-<to>.parquet
    tombstones/kind=delete|update|account|takedown|optout/date=…/part-….parquet
    manifest.jsonl

`date` is the day of the increment. `seq` is the end of the increment that wrote a row.
A tombstone removes rows with a lower `seq` that have its `did`, `nsid` and `rkey`; one
without `nsid` removes all rows of its account.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import pyarrow as pa

from storage.collections import COLLECTION_IDS

SCHEMA_VERSION: Final = 1
ROW_GROUP_ROWS: Final = 122_880
COMPRESSION_LEVEL: Final = 3
OTHER: Final = "other"
"""Partition of the records of all collections that have none of their own."""

PARTITIONS: Final[dict[int, str]] = {
    number: nsid for nsid, number in COLLECTION_IDS.items()
}


class Kind(StrEnum):
    """Reasons of tombstones."""

    DELETE = "delete"
    UPDATE = "update"
    ACCOUNT = "account"
    """The account is inactive, deleted, or left the scope."""
    TAKEDOWN = "takedown"
    OPT_OUT = "optout"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the export. Of rows with equal `key` the last one counts."""

    name: str
    schema: Any
    key: tuple[str, ...]


_SEQ: Final = ("seq", pa.int64())
_TIME: Final = pa.timestamp("us", "UTC")


def _table(name: str, key: str, **columns: Any) -> Table:
    return Table(name, pa.schema([_SEQ, *columns.items()]), tuple(key.split()))


_ADDRESS: Final[dict[str, Any]] = {
    "did": pa.string(),
    "nsid": pa.string(),
    "rkey": pa.string(),
}

# time_us: the time in a TID record key, which authors choose.
RECORDS: Final = _table(
    "records",
    "did nsid rkey",
    **_ADDRESS,
    cid=pa.string(),
    time_us=pa.int64(),
    record=pa.string(),
)
LINKS: Final = _table(
    "links",
    "did nsid rkey path target_did target_nsid target_rkey",
    **_ADDRESS,
    path=pa.string(),
    target_did=pa.string(),
    target_nsid=pa.string(),
    target_rkey=pa.string(),
)
POSTS: Final = _table(
    "posts",
    "did rkey",
    **_ADDRESS,
    text=pa.string(),
    langs=pa.list_(pa.string()),
    created_at=pa.string(),
    reply_parent=pa.string(),
    reply_root=pa.string(),
    quote=pa.string(),
    images=pa.bool_(),
    video=pa.bool_(),
    external=pa.bool_(),
)
ACTORS: Final = _table(
    "actors",
    "did",
    did=pa.string(),
    handle=pa.string(),
    display_name=pa.string(),
    description=pa.string(),
    indexed_at=_TIME,
)
# Counts of a record, or of an account, whose `nsid` is empty.
STATS: Final = _table(
    "stats",
    "did nsid rkey",
    **_ADDRESS,
    likes=pa.int32(),
    reposts=pa.int32(),
    replies=pa.int32(),
    quotes=pa.int32(),
    followers=pa.int32(),
    follows=pa.int32(),
    posts=pa.int32(),
)
# did: the account that the label is about.
LABELS: Final = _table(
    "labels",
    "src uri val cid",
    did=pa.string(),
    uri=pa.string(),
    src=pa.string(),
    val=pa.string(),
    cid=pa.string(),
    neg=pa.bool_(),
    cts=_TIME,
    exp=_TIME,
)
TOMBSTONES: Final = _table("tombstones", "did nsid rkey", **_ADDRESS)

EVENTS: Final = "events"
"""Folder of the second format (export.json_lines)."""
DATA_TABLES: Final = (RECORDS, LINKS, POSTS, ACTORS, STATS, LABELS)
LATEST_ONLY: Final = frozenset(("actors", "stats", "labels"))
"""Tables whose older rows are replaced without a tombstone."""
TABLES: Final = {table.name: table for table in (*DATA_TABLES, TOMBSTONES)}


def part_path(
    table: Table, partition: str, moment: datetime, first: int, last: int, place: int
) -> str:
    """Return the path of a part; `place` numbers the parts of an increment."""
    folders = [table.name]
    if table is RECORDS:
        folders.append(f"collection={partition}")
    elif table is TOMBSTONES:
        folders.append(f"kind={partition}")
    folders.append(f"date={moment:%Y-%m-%d}")
    more = f"-{place}" if place else ""
    return "/".join([*folders, f"part-{first}-{last}{more}.parquet"])
