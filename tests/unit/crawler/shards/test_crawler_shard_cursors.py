"""Cursors and leases of shards."""

from __future__ import annotations

from storage import cursors
from storage.postgres.pool import Pool


def test_cursors_of_shards(pool: Pool) -> None:
    with pool.connection() as conn:
        for shard, seq in enumerate((9, 4, 7)):
            cursors.save_cursors(conn, {1: seq}, shard=shard)
        assert cursors.resume_stream(conn, 2, shards=3) is None
        assert cursors.resume_stream(conn, 1, shards=2) == 4
        rows = "SELECT shard, seq FROM host_cursor WHERE host = 1 ORDER BY shard"
        assert conn.execute(rows).fetchall() == [(0, 4), (1, 4)]
        cursors.save_cursors(conn, {1: 8}, shard=1)
        assert cursors.resume_stream(conn, 1, shards=4) == 4
        assert conn.execute(rows).fetchall() == [(n, 4) for n in range(4)]
        cursors.put_back(conn, 1, 2, shard=3)
        assert cursors.load_cursor(conn, 1) == 2
        assert cursors.resume_stream(conn, 1) == 2
        assert conn.execute(rows).fetchall() == [(0, 2)]


def test_one_shard_of_each_number_and_one_crawler(pool: Pool) -> None:
    from storage.postgres import leases

    with pool.connection() as conn, pool.connection() as other:
        assert leases.hold_crawler(conn)
        assert not leases.hold_crawler(other)
        assert leases.count_shards(conn) == 0
        assert leases.hold_shard(conn, 0)
        assert not leases.hold_shard(other, 0)
        assert leases.hold_shard(other, 1)
        assert leases.count_shards(conn) == 2
        for held in (conn, other):
            held.execute("SELECT pg_advisory_unlock_all()")
