"""An index that changes, its export, and what a reader of the files must see."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import psycopg
from indexer_world import Author, author

from export.exporter import Exporter
from export.layout import LATEST_ONLY, TABLES
from export.manifest import ExportFolder, Part, read_manifest
from protocol.data import cbor
from protocol.data.cid import cid_for, cid_to_text
from protocol.data.json_form import to_json
from protocol.syntax import tid_from_int
from storage.postgres.pool import Conn
from storage.private.takedowns import NOTHING, TakenDown
from storage.records.record_codec import decompress

Seen = Counter[tuple[Any, ...]]


def run_export(url: str, path: Path, *, taken: TakenDown = NOTHING, **more: Any) -> int:
    """Bring the export of an index up to date."""
    with (
        psycopg.connect(url) as conn,
        psycopg.connect(url) as reading,
        ExportFolder(path) as folder,
    ):
        exporter = Exporter(folder, conn, reading, **more)
        return exporter.run(load_taken=lambda: taken)


def parts_of(path: Path, table: str) -> list[Part]:
    """Return the files of a table that the manifest names."""
    return [part for part in read_manifest(path).parts.values() if part.table == table]


def live_duckdb(path: Path, table: str, columns: str) -> Seen:
    """Return the rows of a table in force, read with DuckDB as the docs say."""
    parts = parts_of(path, table)
    if not parts:
        return Counter()
    key = ", ".join(TABLES[table].key)
    with duckdb.connect() as db:
        for name in (table, "tombstones"):
            files = [str(path / part.path) for part in parts_of(path, name)]
            source = "read_parquet(?, hive_partitioning = false)"
            if files:
                db.execute(
                    f"CREATE TABLE raw_{name} AS SELECT * FROM {source}", [files]
                )
            else:
                shape = "seq int8, did text, nsid text, rkey text"
                db.execute(f"CREATE TABLE raw_{name} ({shape})")
        records = "nsid" in TABLES[table].schema.names
        same = "AND t.nsid = r.nsid AND t.rkey = r.rkey" if records else "AND false"
        latest = ""
        if table in LATEST_ONLY:
            # Elsewhere a row that is there twice is a fault.
            order = f"PARTITION BY {key} ORDER BY seq DESC"
            latest = f"QUALIFY row_number() OVER ({order}) = 1"
        rows = db.execute(
            f"""
            SELECT {columns} FROM raw_{table} r
            WHERE NOT EXISTS (FROM raw_tombstones t WHERE t.did = r.did
                AND t.seq > r.seq AND t.nsid IS NULL)
              AND NOT EXISTS (FROM raw_tombstones t WHERE t.did = r.did
                AND t.seq > r.seq {same})
            {latest}
            """
        ).fetchall()
    return Counter(rows)


def live_polars(path: Path, table: str, columns: list[str]) -> Seen:
    """Return the rows of a table in force, read with Polars."""
    parts = parts_of(path, table)
    if not parts:
        return Counter()
    rows = _scan(path, parts)
    dead = parts_of(path, "tombstones")
    if dead:
        found = _scan(path, dead).rename({"seq": "dead"})
        whole = found.filter(pl.col("nsid").is_null()).group_by("did")
        rows = rows.join(whole.agg(pl.col("dead").max()), on="did", how="left")
        rows = rows.filter(pl.col("dead").is_null() | (pl.col("dead") <= pl.col("seq")))
        rows = rows.drop("dead")
        if "nsid" in TABLES[table].schema.names:
            key = ["did", "nsid", "rkey"]
            single = found.filter(pl.col("nsid").is_not_null()).group_by(key)
            rows = rows.join(single.agg(pl.col("dead").max()), on=key, how="left")
            rows = rows.filter(
                pl.col("dead").is_null() | (pl.col("dead") <= pl.col("seq"))
            )
    if table in LATEST_ONLY:
        rows = rows.sort("seq").unique(list(TABLES[table].key), keep="last")
    return Counter(rows.select(columns).collect().rows())


def _scan(path: Path, parts: list[Part]) -> Any:
    files = [path / part.path for part in parts]
    return pl.scan_parquet(files, hive_partitioning=False)


def live_records(conn: Conn) -> Seen:
    """Return (DID, NSID, record key, CID, JSON) of what an export must hold."""
    rows = conn.execute(
        """
        SELECT did, nsid, c.id, record.rkey, value FROM record
        JOIN actor a ON a.id = actor JOIN collection c ON c.id = collection
        JOIN repo USING (actor)
        WHERE upstream_status = 'active' AND takedown IS NULL AND rev IS NOT NULL
        """
    ).fetchall()
    names = dict(conn.execute("SELECT id, text FROM rkey").fetchall())
    conn.commit()
    found: Seen = Counter()
    for did, nsid, _, rkey, stored in rows:
        value = decompress(stored)
        text = json.dumps(
            to_json(cbor.decode(value)), ensure_ascii=False, separators=(",", ":")
        )
        key = tid_from_int(rkey) if rkey > 0 else names[rkey]
        found[
            did, nsid, key, cid_to_text(cid_for(value)), json.loads(text).__repr__()
        ] += 1
    return found


RECORD_COLUMNS = ["did", "nsid", "rkey", "cid", "record"]


def exported_records(path: Path) -> Seen:
    """Return the records in force; DuckDB and Polars must agree."""
    first = live_duckdb(path, "records", ", ".join(RECORD_COLUMNS))
    assert first == live_polars(path, "records", RECORD_COLUMNS)
    return Counter(
        (*row[:4], json.loads(row[4]).__repr__()) for row in first.elements()
    )


def live_counts(conn: Conn) -> Seen:
    """Return (DID, record key, likes, reposts, replies, quotes) of shown posts."""
    rows = conn.execute(
        """
        SELECT did, s.rkey, likes, reposts, replies, quotes FROM post_stats s
        JOIN record r ON r.actor = s.actor AND r.rkey = s.rkey AND r.collection = 1
        JOIN actor a ON a.id = s.actor JOIN repo ON repo.actor = a.id
        WHERE upstream_status = 'active' AND takedown IS NULL AND rev IS NOT NULL
        """
    ).fetchall()
    conn.commit()
    return Counter((did, tid_from_int(rkey), *rest) for did, rkey, *rest in rows)


def exported_counts(path: Path) -> Seen:
    """Return the counts of posts in force."""
    names = ["did", "rkey", "likes", "reposts", "replies", "quotes", "nsid"]
    first = live_duckdb(path, "stats", ", ".join(names))
    assert first == live_polars(path, "stats", names)
    return Counter(
        row[:6] for row in first.elements() if row[6] == "app.bsky.feed.post"
    )


def all_bytes(path: Path) -> bytes:
    """Return every byte of an export: files as they are, and their unpacked columns."""
    found = [file.read_bytes() for file in path.rglob("*") if file.is_file()]
    for file in path.rglob("*.parquet"):
        rows = pl.read_parquet(file, hive_partitioning=False)
        found.append(rows.write_ndjson().encode())
    return b"\n".join(found)


def authors(count: int) -> list[Author]:
    return [author(number) for number in range(count)]
