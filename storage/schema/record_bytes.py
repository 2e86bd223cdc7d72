"""Records: their bytes, and those that are not kept or not shown."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from storage.schema.columns import NOW, int4, int8, octets, table, text, time

RECORD_PARTITIONS: Final = 8

# value: record_codec form of the exact DRISL bytes. CID = hash of the bytes.
record = table(
    "record",
    int4("actor", primary_key=True, autoincrement=False),
    int4("collection", primary_key=True, autoincrement=False),
    int8("rkey", primary_key=True, autoincrement=False),
    octets("value"),
    postgresql_partition_by="HASH (actor)",
)

# Ops of a verified tree that were not kept: without their CIDs the repo's root could
# not be rebuilt. path_digest = first 16 bytes of SHA-256(path), for the index only.
dropped_record = table(
    "dropped_record",
    int4("actor", primary_key=True, autoincrement=False),
    octets("path_digest", primary_key=True),
    octets("path"),
    octets("cid"),
    text("reason"),
)

# Records by the time of their first indexing. Posts and records that are one edge are
# found by their own tables (storage.records.listing).
listed_record = table(
    "listed_record",
    int8("rkey", primary_key=True, autoincrement=False),
    time("indexed_at"),
    int4("actor", primary_key=True, autoincrement=False),
    int4("collection", primary_key=True, autoincrement=False),
    sa.Index(
        "listed_record_collection_indexed_at_idx",
        "collection",
        "indexed_at",
        "actor",
        "rkey",
    ),
)

# Repos that hold a record of a collection (storage.records.collection_repos).
collection_repo = table(
    "collection_repo",
    int4("actor", primary_key=True, autoincrement=False),
    int4("collection", primary_key=True, autoincrement=False),
    sa.Index("collection_repo_collection_actor_idx", "collection", "actor"),
)

# Records that are kept and served as bytes but not shown: their shape is invalid for
# their collection.
index_error = table(
    "index_error",
    int4("actor", primary_key=True, autoincrement=False),
    int4("collection", primary_key=True, autoincrement=False),
    int8("rkey", primary_key=True, autoincrement=False),
    text("reason"),
)

dictionary = table(
    "dictionary",
    int4("id", primary_key=True, autoincrement=False),
    octets("data"),
    time("added_at", server_default=NOW),
)
