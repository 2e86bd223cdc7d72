"""Periodic refreshes of documents and handles, without scans."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crawler.database import Database
from crawler.identities.identity_refresh import IdentityRefresh
from crawler.settings import CrawlSettings
from storage.hosts import host_rows
from storage.jobs import put_jobs
from storage.postgres.pool import Conn, Pool
from storage.repos.identities import stale_accounts

DAY = 86_400.0
JOB = "identity"


def put_accounts(conn: Conn, count: int, *, checked: str) -> None:
    """Add accounts last refreshed `checked` ago, in the order of their DIDs."""
    conn.execute(
        """
        WITH made AS (
            INSERT INTO actor (did, handle_checked_at)
            SELECT 'did:plc:' || lpad(n::text, 8, '0'),
                now() - %(checked)s::interval - n * interval '-1 millisecond'
            FROM generate_series(1, %(count)s) n RETURNING id, did, handle_checked_at
        ), known AS (
            INSERT INTO identity (did, document, fetched_at)
            SELECT did, '{}', handle_checked_at FROM made
        )
        INSERT INTO repo (actor, host, state, identity_at)
        SELECT id, 1, 'synchronized', handle_checked_at FROM made
        """,
        {"checked": checked, "count": count},
    )


def turn(conn: Conn, limit: int) -> list[str]:
    return list(stale_accounts(conn, older_than=DAY, limit=limit, job=JOB))


def test_stale_accounts_reads_only_due_rows(conn: Conn) -> None:
    put_accounts(conn, 20_000, checked="2 days")
    conn.commit()
    conn.execute("ANALYZE")
    conn.commit()
    assert len(turn(conn, 50)) == 50
    row = conn.execute(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::int8"
        " FROM pg_stat_xact_user_tables WHERE relname IN ('repo', 'actor', 'identity')"
    ).fetchone()
    assert row is not None
    assert row[0] <= 1_000


def test_stale_accounts_come_once_oldest_first(conn: Conn) -> None:
    put_accounts(conn, 7, checked="2 days")
    took = [turn(conn, 3) for _ in range(4)]
    assert [len(dids) for dids in took] == [3, 3, 1, 0]
    dids = [did for some in took for did in some]
    assert dids == sorted(dids)


def test_refreshed_account_is_due_a_day_later(conn: Conn) -> None:
    put_accounts(conn, 2, checked="2 days")
    conn.execute("UPDATE actor SET handle_checked_at = now() - interval '20 hours'")
    conn.execute("UPDATE identity SET fetched_at = now() - interval '23 hours'")
    assert turn(conn, 9) == []
    ages = conn.execute("SELECT now() - identity_at < '23.1 hours' FROM repo")
    assert ages.fetchall() == [(True,), (True,)]
    conn.execute("UPDATE actor SET handle_checked_at = NULL WHERE did LIKE '%1'")
    conn.execute("UPDATE repo SET identity_at = identity_at - interval '2 hours'")
    assert turn(conn, 9) == ["did:plc:00000001"]


def test_account_with_job_is_not_stale(conn: Conn) -> None:
    put_accounts(conn, 2, checked="2 days")
    put_jobs(conn, JOB, ["did:plc:00000001"], wait=3_600.0)
    assert turn(conn, 9) == ["did:plc:00000002"]


@pytest.mark.parametrize("accounts", [100, 1_000_000, 10_000_000])
def test_refresh_rate_meets_the_interval(pool: Pool, accounts: int) -> None:
    with pool.connection() as conn:
        host_rows.put_host(conn, "a.example.com", "https://a", source="relay")
        conn.execute("UPDATE host SET accounts = %s", (accounts,))
        put_accounts(conn, 20_000, checked="2 days")
    nothing: Any = type("NetworkClients", (), {"resolver": None})
    work = IdentityRefresh(CrawlSettings(), Database(pool), nothing, nothing)
    queued = asyncio.run(work.queue_stale(200))
    assert queued >= 200
    assert queued * 86_400 / 60 >= accounts
    # As many wait now as are done in a minute or two: nothing is heaped on them.
    assert asyncio.run(work.queue_stale(200)) == 0
