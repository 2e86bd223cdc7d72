"""Floors of the figures: the minimum work of any program."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Final

from bench.index import Index
from bench.metric import median
from protocol.events.frames import decode_frame
from protocol.identity.keys import PublicKey
from protocol.repo.car import read_car
from protocol.repo.commit import parse_commit
from protocol.syntax import Did

_REPEATS: Final = 3
_TABLES: Final = ("record", "link", "post", "post_stats", "actor_stats")
_BATCH_ROWS: Final = 2_000


def signature_rate(frames: Iterable[bytes], keys: Mapping[Did, PublicKey]) -> float:
    """Return bare signature checks per second and core, with the keys of the frames."""
    checks: list[tuple[PublicKey, bytes, bytes]] = []
    for raw in frames:
        body = decode_frame(raw).body
        block = read_car(body["blocks"]).blocks[body["commit"]]
        # Any message of this size takes the same time, valid or not.
        checks.append((keys[body["repo"]], parse_commit(block).sig, block))
    rates = []
    for _ in range(_REPEATS):
        started = time.process_time()
        for key, signature, message in checks:
            key.verify(signature, message)
        rates.append(len(checks) / (time.process_time() - started))
    return median(rates)


def copy_rate(index: Index) -> float:
    """Return records per second of a plain COPY of their rows on one connection.

    The target tables are empty and have the same indexes.
    """
    seconds = 0.0
    records = 0
    with index.pool.connection() as conn:
        for table in _TABLES:
            copied = f"copied_{table}"
            conn.execute(f"CREATE TABLE {copied} (LIKE {table} INCLUDING ALL)")
            if table == "link":
                conn.execute(f"CREATE INDEX ON {copied} {_LINK_INDEX}")
            columns = ", ".join(_columns(index, table))
            batches: list[list[bytes]] = [[]]
            with conn.cursor().copy(
                f"COPY (SELECT {columns} FROM {table}) TO STDOUT"
            ) as out:
                for row in out:
                    if len(batches[-1]) == _BATCH_ROWS:
                        batches.append([])
                    batches[-1].append(bytes(row))
            bodies = [b"".join(batch) for batch in batches]
            conn.commit()
            started = time.perf_counter()
            for body in bodies:
                with conn.cursor().copy(
                    f"COPY {copied} ({columns}) FROM STDIN"
                ) as into:
                    into.write(body)
                conn.commit()
            seconds += time.perf_counter() - started
            if table == "record":
                records = sum(map(len, batches))
            conn.execute(f"DROP TABLE {copied}")
    return records / seconds


_LINK_INDEX: Final = "(target_rkey, target_actor, actor, rkey)"


def _columns(index: Index, table: str) -> list[str]:
    query = (
        "SELECT array_agg(attname ORDER BY attnum)::text[] FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
    )
    columns: list[str] = index.ask(query, table)
    return columns
